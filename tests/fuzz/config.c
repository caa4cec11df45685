// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * config.json as a hostile file: whatever is accepted must be within limits and survive being written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct moe_config config = {0}, again = {0};
	struct moe_error err;
	char *text;

	if (moe_config_parse((const char *)data, size, "fuzz", &config, &err)) {
		if (!memchr(err.text, 0, sizeof(err.text)) || !err.text[0])
			abort();
		return 0;
	}
	text = moe_config_text(&config);
	if (moe_config_check(&config, &err) || !text ||
	    moe_config_parse(text, strlen(text), "again", &again, &err) ||
	    memcmp(&config, &again, sizeof(config)))
		abort();
	free(text);
	return 0;
}
