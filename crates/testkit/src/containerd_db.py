# Writes containers to containerd over its socket until standard input ends, then prints how many times.
# SOCKET NAMESPACE FIRST COUNT CHURN: containers "n-FIRST" and the following COUNT stay, and are changed
# in turn; every CHURN-th time one is made or removed besides. Of each, image, snapshot key and labels
# all derive from its id and the round, so that a record put together from two moments is seen.
import sys, threading, grpc

def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])

def field(no, body):
    body = body.encode() if isinstance(body, str) else body
    return varint(no << 3 | 2) + varint(len(body)) + body

def container(id, round):
    rule = "%s-%d" % (id, round)
    labels = b"".join(field(2, field(1, k) + field(2, v)) for k, v in
                      (("a", rule), ("z", rule), ("pad", rule + "x" * (round * 37 % 700))))
    spec = field(1, "types.containerd.io/opencontainers/runtime-spec/1/Spec") + field(2, '{"x":"%s"}' % (rule * 40))
    return (field(1, id) + labels + field(3, "image-" + rule) + field(4, field(1, "runtime-" + id)) + field(5, spec)
            + field(6, "native") + field(7, "key-" + rule))

sock, namespace, first, count, churn = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
channel = grpc.insecure_channel("unix://" + sock)
def call(method, body):
    at = "/containerd.services.containers.v1.Containers/" + method
    channel.unary_unary(at)(body, timeout=60, metadata=(("containerd-namespace", namespace),))

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
mask = b"".join(field(1, path) for path in ("image", "labels", "snapshotkey", "spec"))
writes = 0
for n in range(first, first + count):
    call("Create", field(1, container("n-%d" % n, 0)))
print("ready", flush=True)
round, short = 0, []
while not ended.is_set():
    round += 1
    for n in range(first, first + count):
        if ended.is_set():
            break
        call("Update", field(1, container("n-%d" % n, round)) + field(2, mask))
        writes += 1
        if writes % churn == 0:
            if len(short) < 60:
                short.append("s-%d-%d" % (first, writes))
                call("Create", field(1, container(short[-1], round)))
            else:
                call("Delete", field(1, short.pop(writes * 7 % len(short))))
            writes += 1
print(writes)
