"""What Ray would ask AWS for, given deploy/cluster.yaml: its own provider runs, and moto stands in for AWS.

Images and machine types are not checked by it: that needs an account.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.cluster.tiny import ROOT

boto3 = pytest.importorskip("boto3", reason="needs boto3: make setup")
mock_aws = pytest.importorskip("moto", reason="needs moto: make setup").mock_aws

REGION = "us-west-2"
ROLE = "ray-autoscaler-v1"  # made beforehand: Ray waits half a minute for one that it makes itself


class Aws(NamedTuple):
    """An account with a private network."""

    ec2: Any
    subnet: str
    group: str


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Aws]:
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray puts the key that it makes
    (tmp_path / ".ssh").mkdir()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    with mock_aws():
        iam = boto3.client("iam", region_name=REGION)
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName=ROLE)
        iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
        ec2 = boto3.resource("ec2", region_name=REGION)
        network = ec2.create_vpc(CidrBlock="10.1.0.0/16")
        subnet = network.create_subnet(CidrBlock="10.1.1.0/24", AvailabilityZone=f"{REGION}a")
        group = ec2.create_security_group(GroupName="ours", Description="ours", VpcId=network.id)
        own = [{"GroupId": group.id}]
        group.authorize_ingress(
            IpPermissions=[{"FromPort": -1, "ToPort": -1, "IpProtocol": "-1", "UserIdGroupPairs": own}]
        )
        yield Aws(ec2, subnet.id, group.id)


def start(text: str) -> dict[str, Any]:
    """One machine of each kind, started by Ray's provider -> kind: what it offers."""
    util = pytest.importorskip("ray.autoscaler._private.util", reason="needs Ray: Python 3.11")
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = util.prepare_config(yaml.safe_load(text))
    util.validate_config(config)
    config = AWSNodeProvider.bootstrap_config(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        assert provider.create_node(dict(kind["node_config"]), {"kind": name}, 1), name
    filled = AWSNodeProvider.fillout_available_node_types_resources(config)
    return {name: kind["resources"] for name, kind in filled["available_node_types"].items()}


def open_to_all(ec2: Any) -> list[int]:
    """Ports that anybody may reach."""
    rules = [rule for group in ec2.security_groups.all() for rule in group.ip_permissions]
    return [rule["FromPort"] for rule in rules if {"CidrIp": "0.0.0.0/0"} in rule["IpRanges"]]


def test_machines_start_in_the_users_network_and_group_and_nothing_is_opened(aws: Aws) -> None:
    text = (ROOT / "deploy/cluster.yaml").read_text()
    text = text.replace("subnet-FILL-IN", aws.subnet).replace("sg-FILL-IN", aws.group)
    resources = start(text)
    assert resources["head"]["GPU"] == 1 and resources["head"]["head_node"] == 1
    assert resources["actors"]["actor_node"] < resources["actors"]["CPU"] and "GPU" not in resources["actors"]
    machines = list(aws.ec2.instances.all())
    assert len(machines) == 2
    for machine in machines:
        assert machine.public_ip_address is None and machine.subnet_id == aws.subnet
        assert [group["GroupId"] for group in machine.security_groups] == [aws.group]
    assert open_to_all(aws.ec2) == []


def test_without_a_group_of_the_users_ray_would_take_ssh_from_everywhere(aws: Aws) -> None:
    """Why the file asks for one."""
    text = (ROOT / "deploy/cluster.yaml").read_text().replace("subnet-FILL-IN", aws.subnet)
    start(text.replace("            SecurityGroupIds: [sg-FILL-IN]\n", ""))
    assert open_to_all(aws.ec2) == [22]
