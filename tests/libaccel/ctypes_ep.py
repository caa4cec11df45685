#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Dispatch and combine from plain Python through libaccel.so: two forked ranks, four experts, each
# token to experts e and e + 1 with weight 1. The experts return their rows, so a token comes back
# once for each rank that it went to. BUILD names the build folder; prints TAP.
import ctypes as c, os, socket, struct, sys

WORLD, HIDDEN, TOPK, EXPERTS, TOKENS = 2, 64, 2, 4, 6
lib = c.CDLL(os.path.join(os.environ.get("BUILD", "build"), "lib/libaccel.so.0"))
size, ptr, u32, u64, i32 = c.c_size_t, c.c_void_p, c.c_uint32, c.c_uint64, c.c_int32
fields = lambda *f: type("Struct", (c.Structure,), {"_fields_": [("size", size), *f]})
GroupOpts = fields(("master_addr", c.c_char_p), ("master_port", u32), ("join", u32),
                   ("name", c.c_char_p), ("allgather", ptr), ("allgather_arg", ptr),
                   ("socket_dir", c.c_char_p), ("transports", c.c_char_p),
                   ("timeout_ns", c.c_int64), ("reserved", u64 * 8), ("address", c.c_char_p),
                   ("verbs_devices", c.c_char_p), ("verbs_gid", c.c_char_p),
                   ("verbs_library", c.c_char_p), *(("verbs_" + name, u32) for name in (
                       "rails", "qps", "traffic_class", "service_level", "mtu", "inline_bytes",
                       "depth", "stripe_bytes", "ack_timeout", "retries")))
Input = fields(("tokens", u32), ("x_dtype", u32), ("x", ptr), ("x_stride_bytes", u64),
               ("scales", ptr), ("scales_stride_bytes", u64), ("topk_idx", ptr),
               ("topk_weights", ptr), ("stream", ptr), ("reserved", u64 * 4))
Recv = fields(("rows", u32), ("entries", u32), ("experts_local", u32), ("dtype", u32),
              ("row", c.POINTER(ptr)), *((name, ptr) for name in (
                  "scale", "src_rank", "src_token", "topk_idx", "topk_weights", "rank_offset",
                  "expert_offset", "expert_row", "expert_k", "expert_weight", "window")),
              ("missing", u64 * 16))
Output = fields(("y", ptr), ("rows_max", u64))
Error = fields(("code", i32), ("rank", i32), ("phase", u32), ("lane", i32), ("round", u64),
               ("missing", u64 * 16), ("text", c.c_char * 512))
lib.accel_buffer_addr.restype = ptr

def ok(rc, obj=None):
    if rc < 0:
        error = Error(size=c.sizeof(Error))
        lib.accel_error_get(obj, c.byref(error))
        raise SystemExit(f"# {rc}: {error.text.decode()}")

def run_rank(rank, port):
    dev, group, ep, buf, row_bytes = ptr(), ptr(), ptr(), ptr(), HIDDEN * 2
    ok(lib.accel_device_open(b"host", c.byref(dev)))
    opts = GroupOpts(size=c.sizeof(GroupOpts), master_addr=b"127.0.0.1", master_port=port)
    ok(lib.accel_group_create(dev, rank, WORLD, c.byref(opts), c.byref(group)))
    ok(lib.accel_ep_create(group, HIDDEN, TOPK, EXPERTS, TOKENS, None, c.byref(ep)))
    ok(lib.accel_buffer_create(dev, u64(TOKENS * row_bytes), None, c.byref(buf)))
    rows = [struct.pack(f"{HIDDEN}H", *range(0x3F80 + rank * TOKENS + t, 0x3FC0 + rank * TOKENS + t))
            for t in range(TOKENS)]  # bf16, 1.0 and up
    c.memmove(lib.accel_buffer_addr(buf), b"".join(rows), TOKENS * row_bytes)
    ids = (i32 * (TOKENS * TOPK))(*((t + k) % EXPERTS for t in range(TOKENS) for k in range(TOPK)))
    tokens = Input(size=c.sizeof(Input), tokens=TOKENS, x=lib.accel_buffer_addr(buf),
                   topk_idx=c.addressof(ids))
    recv, output = Recv(size=c.sizeof(Recv)), Output(size=c.sizeof(Output))
    out = c.create_string_buffer(TOKENS * row_bytes)
    for _ in range(3):
        ok(lib.accel_ep_dispatch(ep, 0, c.byref(tokens), c.c_int64(-1), c.byref(recv)), ep)
        ok(lib.accel_ep_output_get(ep, 0, c.byref(output)), ep)
        for i in range(recv.rows):
            c.memmove(output.y + i * row_bytes, recv.row[i], row_bytes)
        ok(lib.accel_ep_combine(ep, 0, None, c.c_int64(-1), out, u64(0), None), ep)
        for t in range(TOKENS):  # experts 0 and 1 are rank 0's: those of an odd token lie on both ranks
            twice = 0x80 if t % 2 else 0  # the value: one more in the exponent
            want = tuple(bits + twice for bits in struct.unpack(f"{HIDDEN}H", rows[t]))
            got = struct.unpack_from(f"{HIDDEN}H", out, t * row_bytes)
            assert got == want, f"rank {rank}, token {t}"
    lib.accel_ep_destroy(ep)
    lib.accel_buffer_destroy(buf)
    lib.accel_group_destroy(group)
    lib.accel_device_close(dev)

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
children = []
for rank in range(WORLD):
    child = os.fork()
    if child == 0:
        run_rank(rank, port)
        os._exit(0)
    children.append(child)
failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
print(f"1..1\n{'not ok' if failed else 'ok'} 1 - ctypes drives dispatch and combine through libaccel.so")
sys.exit(failed > 0)
