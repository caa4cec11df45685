/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/* accel-moe synth: seeded weights written as a checkpoint in the published format. */
#ifndef ACCEL_RUNTIME_SYNTH_H
#define ACCEL_RUNTIME_SYNTH_H

/**
 * moe_synth_main - the command: synth DIR [options]
 * @argv: argv[0] is "synth"
 * Writes to stderr, and to stdout for --help. Nothing in DIR makes a checkpoint of it before everything is written.
 * Return: enum moe_exit.
 */
int moe_synth_main(int argc, char **argv);

#endif
