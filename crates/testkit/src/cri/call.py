"""One call of the Container Runtime Interface, as the kubelet makes it.

    call.py SOCKET METHOD <REQUEST >RESPONSE

Request and response are JSON with the names of the CRI's messages. The wire format is written and
read here, by the tables below (kubernetes/cri-api, pkg/apis/runtime/v1/api.proto); what they don't
name is left out of a response.
"""

import json
import sys

import grpc

# A field is NUMBER NAME TYPE. A type is string, int, bool, map (of strings to strings) or a message
# of this table; with + it is repeated.
MESSAGES = """
KeyValue: 1 key string, 2 value string
ImageSpec: 1 image string
NamespaceOption: 1 network int, 2 pid int, 3 ipc int, 4 target_id string
PodSandboxMetadata: 1 name string, 2 uid string, 3 namespace string, 4 attempt int
LinuxSandboxSecurityContext: 1 namespace_options NamespaceOption
LinuxPodSandboxConfig: 1 cgroup_parent string, 2 security_context LinuxSandboxSecurityContext
PodSandboxConfig: 1 metadata PodSandboxMetadata, 2 hostname string, 3 log_directory string,
  6 labels map, 7 annotations map, 8 linux LinuxPodSandboxConfig
PodSandboxStatus: 1 id string, 2 metadata PodSandboxMetadata, 3 state int, 4 created_at int,
  7 labels map, 8 annotations map, 9 runtime_handler string
ContainerMetadata: 1 name string, 2 attempt int
LinuxContainerResources: 3 cpu_shares int, 4 memory_limit_in_bytes int
LinuxContainerSecurityContext: 3 namespace_options NamespaceOption
LinuxContainerConfig: 1 resources LinuxContainerResources,
  2 security_context LinuxContainerSecurityContext
ContainerConfig: 1 metadata ContainerMetadata, 2 image ImageSpec, 3 command string+, 4 args string+,
  6 envs KeyValue+, 9 labels map, 10 annotations map, 11 log_path string, 15 linux LinuxContainerConfig
Container: 1 id string, 2 pod_sandbox_id string, 3 metadata ContainerMetadata, 4 image ImageSpec,
  5 image_ref string, 6 state int, 7 created_at int, 8 labels map, 9 annotations map
ContainerStatus: 1 id string, 2 metadata ContainerMetadata, 3 state int, 4 created_at int,
  5 started_at int, 6 finished_at int, 7 exit_code int, 8 image ImageSpec, 9 image_ref string,
  10 reason string, 12 labels map, 13 annotations map, 15 log_path string

VersionRequest: 1 version string
VersionResponse: 2 runtime_name string, 3 runtime_version string
RunPodSandboxRequest: 1 config PodSandboxConfig, 2 runtime_handler string
RunPodSandboxResponse: 1 pod_sandbox_id string
StopPodSandboxRequest: 1 pod_sandbox_id string
StopPodSandboxResponse:
RemovePodSandboxRequest: 1 pod_sandbox_id string
RemovePodSandboxResponse:
PodSandboxStatusRequest: 1 pod_sandbox_id string, 2 verbose bool
PodSandboxStatusResponse: 1 status PodSandboxStatus, 2 info map
CreateContainerRequest: 1 pod_sandbox_id string, 2 config ContainerConfig,
  3 sandbox_config PodSandboxConfig
CreateContainerResponse: 1 container_id string
StartContainerRequest: 1 container_id string
StartContainerResponse:
StopContainerRequest: 1 container_id string, 2 timeout int
StopContainerResponse:
ListContainersRequest:
ListContainersResponse: 1 containers Container+
ContainerStatusRequest: 1 container_id string, 2 verbose bool
ContainerStatusResponse: 1 status ContainerStatus, 2 info map
"""


def tables():
    found = {}
    for text in MESSAGES.replace("\n  ", " ").splitlines():
        if not text:
            continue
        name, _, fields = text.partition(":")
        found[name] = {
            key: (int(number), kind.rstrip("+"), kind.endswith("+"))
            for number, key, kind in (field.split() for field in fields.split(",") if field.strip())
        }
    return found


TABLES = tables()


def written(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_field(number, kind, value):
    if kind in ("int", "bool"):
        return written(number << 3) + written(int(value))
    if kind == "map":
        pairs = ({"key": key, "value": text} for key, text in value.items())
        return b"".join(write_field(number, "KeyValue", pair) for pair in pairs)
    body = value.encode() if kind == "string" else write(kind, value)
    return written(number << 3 | 2) + written(len(body)) + body


def write(message, values):
    out = b""
    for key, value in values.items():
        number, kind, repeated = TABLES[message][key]
        for one in value if repeated else [value]:
            out += write_field(number, kind, one)
    return out


def number_at(body, at):
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(body):
    at = 0
    while at < len(body):
        tag, at = number_at(body, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = number_at(body, at)
            # 64 bits, with a sign.
            value -= 1 << 64 if value >> 63 else 0
        elif wire == 2:
            size, at = number_at(body, at)
            value, at = body[at : at + size], at + size
        else:
            raise ValueError(f"field {number} has wire type {wire}")
        yield number, value


def read(message, body):
    by_number = {number: (key, kind, many) for key, (number, kind, many) in TABLES[message].items()}
    # What is not on the wire has the value zero.
    zero = {"string": "", "int": 0, "bool": False}
    out = {}
    for key, (_, kind, many) in TABLES[message].items():
        out[key] = [] if many else {} if kind == "map" else zero.get(kind)
    for number, value in fields(body):
        if number not in by_number:
            continue
        key, kind, many = by_number[number]
        if kind == "map":
            pair = read("KeyValue", value)
            out[key][pair["key"]] = pair["value"]
            continue
        if kind == "string":
            value = value.decode()
        elif kind == "bool":
            value = bool(value)
        elif kind != "int":
            value = read(kind, value)
        if many:
            out[key].append(value)
        else:
            out[key] = value
    return out


def main():
    socket, method = sys.argv[1:]
    request = write(f"{method}Request", json.load(sys.stdin))
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        call = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        try:
            response = call(request, timeout=90)
        except grpc.RpcError as error:
            sys.exit(f"{method}: {error.code().name}: {error.details()}")
    json.dump(read(f"{method}Response", response), sys.stdout)


main()
