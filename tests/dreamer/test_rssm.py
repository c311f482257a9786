"""The networks and the recurrent state-space model."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer.equations import one_hot_mode
from dreamer.nets import MLP, LayerNormGRUCell, init_glorot
from dreamer.pictures import Decoder, Encoder, transposed_conv_of_one_pixel
from dreamer.rssm import RSSM
from dreamer.types import NO_CLASS, State, Unroll
from tests.dreamer.tiny import ACTIONS, MODEL, bfloat16, random_actions, random_state

close = torch.testing.assert_close
EMBED = 7
T, B = 6, 3


@pytest.fixture
def rssm() -> RSSM:
    rssm = RSSM(MODEL, num_actions=ACTIONS, embed=EMBED)
    for parameter in rssm.parameters():  # no zero anywhere, so that nothing is invisible by chance
        nn.init.normal_(parameter, std=0.7)
    return rssm


def random_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """embed [T, B, E], prev_action [T, B, A], is_first [T, B]: a game begins at t=0, and in row 1 at t=3."""
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0] = True
    is_first[3, 1] = True
    return torch.randn(T, B, EMBED), random_actions(T, B), is_first


def mode(logits: Tensor, noise: Tensor | None = None) -> Tensor:
    """In the place of a draw."""
    return one_hot_mode(logits)


def observe(rssm: RSSM, *inputs: Tensor | State | None) -> Unroll:
    torch.manual_seed(5)
    with torch.no_grad():
        return rssm.observe(*inputs)


# --- networks --------------------------------------------------------------------------------------------------------


def golden_gru() -> LayerNormGRUCell:
    cell = LayerNormGRUCell(2, 2)
    with torch.no_grad():
        cell.dense.weight.copy_(torch.arange(24.0).view(6, 4) / 10 - 1)
        cell.dense.bias.zero_()
    return cell


U, H = torch.tensor([[0.1, -0.2]]), torch.tensor([[0.3, -0.4]])
GOLDEN_H = torch.tensor([[0.289996, -0.383559]])


def test_gru_gives_the_golden_numbers() -> None:
    close(golden_gru()(U, H), GOLDEN_H, atol=1e-6, rtol=0)


def test_golden_gru_tells_the_epsilon_and_the_update_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = golden_gru()
    cell.norm.eps = 1e-5
    assert (cell(U, H) - GOLDEN_H).abs().max() > 1e-4
    cell = golden_gru()
    monkeypatch.setattr(LayerNormGRUCell, "UPDATE_BIAS", 0.0)
    assert (cell(U, H) - GOLDEN_H).abs().max() > 1e-3


def test_gru_normalises_its_three_parts_together() -> None:
    cell = LayerNormGRUCell(4, 5)
    assert cell.norm.normalized_shape == (15,)
    assert cell.norm.eps == 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_encoder_and_decoder_have_the_shapes_of_64_pixels(channels: int) -> None:
    encoder, decoder = Encoder(channels, depth=2), Decoder(9, channels, depth=2)
    embed = encoder(torch.zeros(3, channels, 64, 64))
    assert embed.shape == (3, encoder.outputs) == (3, 64)
    assert decoder(torch.zeros(3, 9)).shape == (3, channels, 64, 64)


def test_transposed_conv_of_one_pixel_equals_torchs_in_values_and_gradients() -> None:
    conv = nn.ConvTranspose2d(6, 4, kernel_size=5, stride=2)
    x, weight = torch.randn(3, 6, requires_grad=True), torch.randn(3, 4, 5, 5)
    ours = transposed_conv_of_one_pixel(x, conv)
    theirs = F.conv_transpose2d(x[..., None, None], conv.weight, conv.bias, stride=2)
    close(ours, theirs)
    inputs = (x, conv.weight, conv.bias)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((theirs * weight).sum(), inputs),
        strict=True,
    ):
        close(a, b)


def test_decoder_equals_plain_layers_in_a_row() -> None:
    decoder, feat = Decoder(9, channels=1, depth=2), torch.randn(3, 9)
    x = decoder.dense(feat)[..., None, None]  # no activation
    for conv in decoder.convs[:-1]:
        x = F.elu(conv(x))
    close(decoder(feat), decoder.convs[-1](x))


def test_mlp_ends_with_a_linear_layer() -> None:
    mlp, x = MLP(4, layers=2, units=8, outputs=3), torch.randn(5, 4)
    first, second = mlp.hidden
    close(mlp(x), mlp.out(F.elu(second(F.elu(first(x))))))


def test_layers_start_glorot_uniform_with_zero_biases() -> None:
    net = nn.Sequential(nn.Linear(90, 60), nn.Conv2d(8, 16, 4), nn.ConvTranspose2d(16, 8, 5))
    init_glorot(net)
    sums = [90 + 60, (8 + 16) * 16, (16 + 8) * 25]
    for layer, fans in zip(net, sums, strict=True):
        bound = math.sqrt(6 / fans)
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.98 * bound
        close(layer.weight.std(), torch.tensor(bound / math.sqrt(3)), rtol=0.06, atol=0)
        assert (layer.bias == 0).all()


# --- recurrence ------------------------------------------------------------------------------------------------------


def test_observe_has_the_shapes_of_the_glossary(rssm: RSSM) -> None:
    unroll = observe(rssm, *random_inputs())
    logits = (T, B, MODEL.stoch, MODEL.classes)
    assert unroll.state.h.shape == (T, B, MODEL.deter)
    assert unroll.state.z.shape == unroll.post.shape == unroll.prior.shape == logits
    assert unroll.state.feat().shape == (T, B, MODEL.deter + MODEL.stoch * MODEL.classes)


def test_features_have_z_first() -> None:
    state = random_state(2)
    close(state.feat()[:, : MODEL.stoch * MODEL.classes], state.z.flatten(1))
    close(state.feat()[:, MODEL.stoch * MODEL.classes :], state.h)


def test_initial_state_is_zero(rssm: RSSM) -> None:
    state = rssm.initial(4)
    assert state.h.shape == (4, MODEL.deter) and state.z.shape == (4, MODEL.stoch, MODEL.classes)
    assert (state.h == 0).all() and (state.z == 0).all()


def test_imagine_step_draws_z_from_the_prior_of_the_new_h(rssm: RSSM) -> None:
    prev, action = random_state(20_000), random_actions(1).expand(20_000, ACTIONS)
    prev = State(prev.h[:1].expand_as(prev.h), prev.z[:1].expand_as(prev.z))
    with torch.no_grad():
        state = rssm.imagine_step(prev, action)
        close(state.h, rssm.recur(prev, action))
        close(state.z.mean(0), rssm.prior(state.h[0]).softmax(-1), atol=0.02, rtol=0)


def test_observe_step_draws_z_from_the_posterior(rssm: RSSM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamer.equations.straight_through_sample", mode)
    prev, action, embed = random_state(B), random_actions(B), torch.randn(B, EMBED)
    state, post = rssm.observe_step(prev, action, torch.zeros(B, dtype=torch.bool), embed)
    close(state.h, rssm.recur(prev, action))
    close(post, rssm.post(state.h, embed))
    close(state.z, one_hot_mode(post))
    assert not torch.equal(state.z, one_hot_mode(rssm.prior(state.h)))


@pytest.mark.parametrize("change", ["h", "z", "action"])
def test_is_first_erases_the_past_bit_for_bit(rssm: RSSM, change: str) -> None:
    embed, is_first = torch.randn(2, EMBED), torch.tensor([True, False])
    prev, action = random_state(2), torch.eye(ACTIONS)[[0, 0]]
    other = State(
        prev.h + 1 if change == "h" else prev.h,
        prev.z.roll(1, -1) if change == "z" else prev.z,
    )
    other_action = torch.eye(ACTIONS)[[2, 2]] if change == "action" else action
    torch.manual_seed(1)
    state, post = rssm.observe_step(prev, action, is_first, embed)
    torch.manual_seed(1)
    other_state, other_post = rssm.observe_step(other, other_action, is_first, embed)
    assert torch.equal(state.h[0], other_state.h[0])
    assert torch.equal(state.z[0], other_state.z[0])
    assert torch.equal(post[0], other_post[0])
    assert not torch.equal(state.h[1], other_state.h[1])  # the other game goes on and remembers
    assert not torch.equal(post[1], other_post[1])


def test_first_step_equals_one_from_the_zero_state_without_any_action(rssm: RSSM) -> None:
    embed, first = torch.randn(2, EMBED), torch.ones(2, dtype=torch.bool)
    _, post = rssm.observe_step(random_state(2), random_actions(2), first, embed)
    _, expected = rssm.observe_step(rssm.initial(2), torch.zeros(2, ACTIONS), ~first, embed)
    assert torch.equal(post, expected)


def test_a_game_in_the_middle_of_a_window_is_as_if_the_window_began_there(rssm: RSSM, monkeypatch) -> None:
    monkeypatch.setattr("dreamer.equations.straight_through_sample", mode)
    embed, action, is_first = random_inputs()
    whole = observe(rssm, embed, action, is_first)
    part = observe(rssm, embed[3:, 1:2], action[3:, 1:2], is_first[3:, 1:2])
    close(whole.state.h[3:, 1:2], part.state.h)
    close(whole.post[3:, 1:2], part.post)
    close(whole.prior[3:, 1:2], part.prior)


@pytest.mark.parametrize("from_zero", [True, False])
def test_observe_equals_repeated_observe_step(rssm: RSSM, from_zero: bool) -> None:
    embed, action, is_first = random_inputs()
    is_first[0] = False
    state = rssm.initial(B) if from_zero else random_state(B)
    unroll = observe(rssm, embed, action, is_first, None if from_zero else state)
    torch.manual_seed(5)
    with torch.no_grad():
        for t in range(T):
            state, post = rssm.observe_step(state, action[t], is_first[t], embed[t])
            assert torch.equal(unroll.state.h[t], state.h)
            assert torch.equal(unroll.state.z[t], state.z)
            assert torch.equal(unroll.post[t], post)
            close(unroll.prior[t], rssm.prior(state.h))


def test_a_window_goes_on_from_the_state_before_it(rssm: RSSM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamer.equations.straight_through_sample", mode)
    embed, action, is_first = random_inputs()
    whole = observe(rssm, embed, action, is_first)
    part = observe(rssm, embed[2:], action[2:], is_first[2:], State(whole.state.h[1], whole.state.z[1]))
    close([*part.state, part.post, part.prior], [x[2:] for x in (*whole.state, whole.post, whole.prior)])
    from_zero = observe(rssm, embed[2:], action[2:], is_first[2:])
    assert not torch.isclose(from_zero.post[0], whole.post[2]).any()


def test_where_a_game_begins_nothing_of_the_state_before_shows(rssm: RSSM) -> None:
    embed, action, is_first = random_inputs()
    plain = observe(rssm, embed, action, is_first)
    other = observe(rssm, embed, action, is_first, random_state(B))
    assert torch.equal(plain.post, other.post) and torch.equal(plain.state.h, other.state.h)


def test_a_packed_state_comes_back(rssm: RSSM) -> None:
    state = random_state(1000)
    h, z = state.pack()
    assert h.dtype == torch.float16 and z.dtype == torch.uint8
    assert h.shape == (1000, MODEL.deter) and z.shape == (1000, MODEL.stoch)
    back = rssm.unpack(h, z)
    assert torch.equal(back.z, state.z) and back.h.dtype == back.z.dtype == torch.float32
    close(back.h, state.h, atol=2.5e-4, rtol=0)


def test_the_zero_state_stays_zero_when_it_is_packed(rssm: RSSM) -> None:
    h, z = rssm.initial(2).pack()
    assert (z == NO_CLASS).all()
    assert not any(part.any() for part in rssm.unpack(h, z))


def test_a_class_that_needs_more_than_a_byte_is_not_packed() -> None:
    State(torch.zeros(1, 3), torch.zeros(1, 2, NO_CLASS)).pack()
    with pytest.raises(AssertionError):
        State(torch.zeros(1, 3), torch.zeros(1, 2, NO_CLASS + 1)).pack()


def test_the_prior_never_sees_the_picture_of_its_own_step(rssm: RSSM) -> None:
    embed, action, is_first = random_inputs()
    before = observe(rssm, embed, action, is_first)
    t = 2
    embed[t] += 10 * torch.randn(B, EMBED)
    after = observe(rssm, embed, action, is_first)
    assert torch.equal(before.prior[: t + 1], after.prior[: t + 1])
    assert torch.equal(before.state.h[: t + 1], after.state.h[: t + 1])
    assert torch.equal(before.post[:t], after.post[:t])
    assert not torch.equal(before.post[t], after.post[t])
    assert not torch.equal(before.prior[t + 1], after.prior[t + 1])


def test_the_action_that_led_to_a_picture_shows_in_the_prior_of_that_picture(rssm: RSSM) -> None:
    embed, action, is_first = random_inputs()
    before = observe(rssm, embed, action, is_first)
    t = 2
    action[t] = action[t].roll(1, -1)
    after = observe(rssm, embed, action, is_first)
    assert torch.equal(before.prior[:t], after.prior[:t])
    assert not torch.isclose(before.prior[t], after.prior[t]).all((-2, -1)).any()


def test_logits_and_states_stay_float32_in_mixed_precision(rssm: RSSM) -> None:
    embed, action, is_first = random_inputs()
    with bfloat16():
        unroll = rssm.observe(embed, action, is_first)
        dreamt = rssm.imagine_step(random_state(B), random_actions(B))
    for tensor in (unroll.post, unroll.prior, *unroll.state, *dreamt):
        assert tensor.dtype == torch.float32
    close(unroll.post.softmax(-1).sum(-1), torch.ones(T, B, MODEL.stoch), atol=1e-5, rtol=0)
    close(unroll.state.z.sum(-1), torch.ones(T, B, MODEL.stoch), atol=1e-5, rtol=0)


def test_straight_through_gradients_flow_from_a_dream_to_its_actions(rssm: RSSM) -> None:
    action = random_actions(B).requires_grad_()
    state = rssm.imagine_step(random_state(B), action)
    for part in state:
        (grad,) = torch.autograd.grad((part * torch.randn_like(part)).sum(), action, retain_graph=True)
        assert grad.abs().max() > 0


def test_in_dreams_a_low_temperature_draws_what_is_probable(rssm: RSSM) -> None:
    state, action = random_state(2000), random_actions(2000)
    likely = rssm.prior(rssm.recur(state, action)).softmax(-1)
    drawn = {t: (rssm.imagine_step(state, action, t).z * likely).sum(-1).mean().item() for t in (1.0, 0.1)}
    assert drawn[1.0] == pytest.approx(likely.square().sum(-1).mean().item(), abs=0.01)  # from the prior itself
    assert drawn[0.1] == pytest.approx(likely.amax(-1).mean().item(), abs=0.05)
