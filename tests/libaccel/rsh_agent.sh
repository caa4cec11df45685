# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# What mpirun may call instead of ssh HOST COMMAND: the command runs here, under that host's name, so that one machine
# passes for several.
host=$1
shift
exec unshare --uts sh -c "hostname $host; $*"
