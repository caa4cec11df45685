#!/bin/sh
# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Dispatch and combine in a guest as it is tested outside: ranks as processes and as threads, in host memory. What this
# tests is the guest, whose CPU is another one and whose processes, shared memory and sockets are another kernel's.
exec "./${BUILD:-build}/tests/libaccel/ep_exchange.t" as_ world_of_one no_payload_byte
