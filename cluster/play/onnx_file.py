"""A step of the dream as an ONNX file whose weights are float16: half the size, and nearly as true.

Computed in float32: each weight is cast back as the file is loaded, so nothing but the rounding of the weights differs.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from cluster.play.dream import INPUTS, OUTPUTS, DreamStep

OPSET = 17  # the first with LayerNormalization; every ONNX Runtime of the last years knows it
SMALL = 64  # numbers of a constant that stays in float32: shapes, scales, the values of a head's classes


def as_onnx(dream: DreamStep) -> bytes:
    """The step for one state: inputs INPUTS, outputs OUTPUTS."""
    rssm, actions = dream.world.rssm, dream.world.num_actions
    h, z = rssm.initial(1)
    example = (h, z, torch.zeros(1, actions), torch.zeros_like(z), torch.ones(()))
    file = io.BytesIO()
    torch.onnx.register_custom_op_symbolic("aten::expm1", expm1, OPSET)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of the exporter
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # dynamo=False: the newer way needs onnxscript, whose ml_dtypes is newer than TensorFlow's.
            torch.onnx.export(
                dream.eval(),
                example,
                file,
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        logging.disable(before)
    return halve(onnx.load_from_string(file.getvalue())).SerializeToString()


def expm1(graph: Any, x: Any) -> Any:
    """ONNX has none. Near enough for the values of a head's classes, which are all that it is used for."""
    return graph.op("Sub", graph.op("Exp", x), graph.op("Constant", value_t=torch.ones(())))


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with float16 weights, each cast to float32 before it is used."""
    casts = []
    for weight in model.graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype != np.float32 or array.size <= SMALL:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(model)
    return model
