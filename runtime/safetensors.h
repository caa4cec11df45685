/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The accel authors */
/*
 * safetensors files, read in place and written as a stream, and the sharded checkpoints made of them.
 *
 *     offset 0   u64, little-endian: bytes of the header, n
 *     8          the header, JSON: { "__metadata__": {string: string}, name: {"dtype": string, "shape": [integers],
 *                "data_offsets": [begin, end]}, ... }, may end in spaces
 *     8 + n      data; begin and end count from here; little-endian, row-major; tensors cover it without gap or overlap
 *
 * Nothing says that a tensor is aligned: data pointers may be odd. A file is hostile until the whole header has been
 * checked against the file's size. A file that somebody truncates while it is mapped raises SIGBUS, as for any reader.
 */
#ifndef ACCEL_RUNTIME_SAFETENSORS_H
#define ACCEL_RUNTIME_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum moe_dtype {
	MOE_DTYPE_BOOL,
	MOE_DTYPE_U8,
	MOE_DTYPE_I8,
	MOE_DTYPE_F8_E4M3,
	MOE_DTYPE_F8_E5M2,
	MOE_DTYPE_F8_E8M0,
	MOE_DTYPE_I16,
	MOE_DTYPE_U16,
	MOE_DTYPE_F16,
	MOE_DTYPE_BF16,
	MOE_DTYPE_I32,
	MOE_DTYPE_U32,
	MOE_DTYPE_F32,
	MOE_DTYPE_I64,
	MOE_DTYPE_U64,
	MOE_DTYPE_F64,
	MOE_DTYPE_COUNT,
};

enum {
	MOE_DIMS_MAX = 8,
	MOE_HEADER_BYTES_MAX = 32 << 20, /* all 91,000 tensors of R1 in one file would need 12 MB */
};

const char *moe_dtype_name(enum moe_dtype dtype);
size_t moe_dtype_bytes(enum moe_dtype dtype);

struct moe_tensor {
	const char *name;
	enum moe_dtype dtype;
	unsigned dims;
	uint64_t shape[MOE_DIMS_MAX];
	const void *data;    /* any alignment; when writing: not used */
	uint64_t size_bytes; /* when writing: not used */
};

/* One name and value of __metadata__. */
struct moe_metadata {
	const char *name, *value;
};

struct moe_safetensors;

/**
 * moe_safetensors_open - map a file and check its header
 * Return: 0; -EINVAL not a valid safetensors file, the sentence says why and where; -ENOENT and what open and mmap
 * return.
 */
int moe_safetensors_open(const char *path, struct moe_safetensors **file, struct moe_error *err);

/** moe_safetensors_parse - the same of bytes that stay the caller's and outlive the result; @name for errors */
int moe_safetensors_parse(const void *data, size_t size, const char *name,
			  struct moe_safetensors **file, struct moe_error *err);

/** moe_safetensors_close - unmap; tensors and their names go with it */
void moe_safetensors_close(struct moe_safetensors *file);

/** moe_safetensors_find - a tensor by name, or NULL */
const struct moe_tensor *moe_safetensors_find(const struct moe_safetensors *file, const char *name);

/** moe_safetensors_at - the tensors by number, ascending by name; NULL past the last */
const struct moe_tensor *moe_safetensors_at(const struct moe_safetensors *file, size_t number);

/** moe_safetensors_metadata - a value of __metadata__, or NULL */
const char *moe_safetensors_metadata(const struct moe_safetensors *file, const char *name);

struct moe_checkpoint;

/**
 * moe_checkpoint_open - a directory with model.safetensors.index.json and its shards, or with one model.safetensors
 * Shards are opened when a tensor is first asked for.
 * Return: 0; -ENOENT neither is there; -EINVAL malformed, or a shard's name leaves the directory.
 */
int moe_checkpoint_open(const char *dir, struct moe_checkpoint **checkpoint, struct moe_error *err);
void moe_checkpoint_close(struct moe_checkpoint *checkpoint);

/**
 * moe_checkpoint_find - a tensor by name, wherever it lies
 * Return: 0; -ENOENT the index, the shard or the tensor in it is missing: the sentence names it; as
 * moe_safetensors_open().
 */
int moe_checkpoint_find(struct moe_checkpoint *checkpoint, const char *name,
			const struct moe_tensor **tensor, struct moe_error *err);

/** moe_checkpoint_has - whether the index, or the one file, names a tensor */
bool moe_checkpoint_has(const struct moe_checkpoint *checkpoint, const char *name);

/** moe_index_check - whether the text of an index file is well-formed: 0 or -EINVAL (for tests of hostile input) */
int moe_index_check(const char *text, size_t size, struct moe_error *err);

struct moe_safetensors_writer;

/**
 * moe_safetensors_create - begin a file whose tensors are known, its room allocated on the disk
 * The data may come in any order. The file appears under @path when it is finished; until then it is @path.part.
 * @tensors: [count] name, dtype, dims and shape; copied
 * Return: 0; -EINVAL a name twice, or more than a file can hold; -ENOSPC; what open returns.
 */
int moe_safetensors_create(const char *path, const struct moe_tensor *tensors, size_t count,
			   const struct moe_metadata *metadata, size_t metadata_count,
			   struct moe_safetensors_writer **writer, struct moe_error *err);

/**
 * moe_safetensors_write - bytes of a tensor
 * @number: its place in @tensors of create
 * @offset: within the tensor
 * Return: 0; -EINVAL beyond the tensor; what pwrite returns.
 */
int moe_safetensors_write(struct moe_safetensors_writer *writer, size_t number, uint64_t offset,
			  const void *data, size_t size, struct moe_error *err);

/**
 * moe_safetensors_finish - all is written: give the file its name; the writer is gone, even on an error
 * Return: 0; -EINVAL fewer or more bytes came than the tensors hold; what fsync, close and rename return.
 */
int moe_safetensors_finish(struct moe_safetensors_writer *writer, struct moe_error *err);

/** moe_safetensors_abandon - delete what has been written; NULL allowed */
void moe_safetensors_abandon(struct moe_safetensors_writer *writer);

#endif
