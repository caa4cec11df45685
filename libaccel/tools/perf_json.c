// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The accel authors
/*
 * The report as one JSON document, schema accel-perf/1. A key that does not apply to a result is
 * left out, but for rows_m, which is null. Version and commit are those of the library that was
 * measured.
 */
#include "perf_machine.h"
#include "perf_report.h"

#include <accel/accel.h>
#include <jansson.h>
#include <kernels.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static json_t *flags(void)
{
	json_t *list = json_array();

#ifdef __x86_64__
#define ADD(name)                                                                                  \
	(__builtin_cpu_supports(name) ? json_array_append_new(list, json_string(name)) : 0)
	ADD("avx2");
	ADD("fma");
	ADD("avx512f");
	ADD("avx512bw");
	ADD("avx512vl");
	ADD("avx512bf16");
#undef ADD
#endif
	return list;
}

static json_t *software(const struct perf_report *report)
{
#ifdef __clang__
	json_t *list = json_pack("{s:s}", "compiler", "clang " __clang_version__);
#else
	json_t *list = json_pack("{s:s}", "compiler", "gcc " __VERSION__);
#endif

	for (unsigned i = 0; i < PERF_SOFTWARE_MAX && report->software[i].name; i++)
		json_object_set_new(list, report->software[i].name,
				    json_string(report->software[i].version));
	return list;
}

static void set_string(json_t *object, const char *key, const char *value)
{
	if (value && *value)
		json_object_set_new(object, key, json_string(value));
}

static void set_count(json_t *object, const char *key, uint64_t value)
{
	if (value)
		json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *host(const struct perf_report *report)
{
	struct accel_device_info info = {.size = sizeof(info)};
	struct accel_device *dev;
	json_t *object;
	struct utsname uts;
	double load = 0;
	char cpu[128];

	if (!accel_device_open("host", &dev)) {
		accel_device_info_get(dev, &info);
		accel_device_close(dev);
	}
	uname(&uts);
	getloadavg(&load, 1);
	perf_cpu_name(cpu, sizeof(cpu));
	object = json_pack("{s:s, s:o, s:i, s:i, s:I, s:s, s:f, s:i, s:s}", "cpu", cpu, "flags",
			   flags(), "cores", perf_cores(), "numa_nodes", (int)info.numa_nodes,
			   "mem_bytes", (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE),
			   "kernel", uts.release, "load1", load, "page_bytes",
			   (int)(report->page_bytes ? report->page_bytes : info.page_bytes),
			   "kernels", perf_report_kernels(report)->name);
	set_count(object, "hand_over_ns_max", (uint64_t)report->hand_over_ns_max);
	if (perf_ranks_hosts() > 1) /* of which this is the first rank's */
		set_count(object, "hosts", (uint64_t)perf_ranks_hosts());
	return object;
}

static json_t *id_of(unsigned id)
{
	return json_sprintf("r%u", id);
}

static json_t *counters(const struct perf_counters *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "bytes_wire", (json_int_t)c->bytes_wire,
			 "bytes_landed", (json_int_t)c->bytes_landed, "bytes_quantised",
			 (json_int_t)c->bytes_quantised, "bytes_staged",
			 (json_int_t)c->bytes_staged, "maps", (json_int_t)c->maps, "work_requests",
			 (json_int_t)c->work_requests);
}

static void set_measured(json_t *object, const struct perf_result *r)
{
	json_t *ranks = json_array();

	for (uint32_t i = 0; i < r->ranks; i++)
		json_array_append_new(ranks, json_integer((json_int_t)r->per_rank_median_ns[i]));
	json_object_set_new(object, "ns",
			    json_pack("{s:I, s:I, s:I, s:I, s:I}", "min", (json_int_t)r->ns.min,
				      "p10", (json_int_t)r->ns.p10, "median",
				      (json_int_t)r->ns.median, "p90", (json_int_t)r->ns.p90, "max",
				      (json_int_t)r->ns.max));
	json_object_set_new(object, "per_rank_median_ns", ranks);
	json_object_set_new(object, "work",
			    json_pack("{s:I, s:I, s:I}", "rows", (json_int_t)r->rows,
				      "payload_bytes", (json_int_t)r->payload_bytes, "macs",
				      (json_int_t)r->macs));
	json_object_set_new(object, "counters", counters(&r->counters));
	json_object_set_new(object, "verified", json_boolean(r->verified));
}

static json_t *result(const struct perf_result *r)
{
	json_t *object = json_pack("{s:o, s:s, s:s, s:i}", "id", id_of(r->id), "op", r->op,
				   "method", r->method, "run", (int)r->run);

	set_string(object, "settings", r->settings);
	set_string(object, "transport", r->transport);
	set_string(object, "receive", r->receive);
	set_string(object, "combine_input", r->combine_input);
	set_string(object, "dtype", r->dtype);
	set_string(object, "x_dtype", r->x_dtype);
	set_count(object, "ranks", r->ranks);
	set_count(object, "tokens", r->tokens);
	set_count(object, "hidden", r->hidden);
	set_count(object, "experts", r->experts);
	set_count(object, "topk", r->topk);
	set_count(object, "intermediate", r->intermediate);
	json_object_set_new(object, "rows_m",
			    r->rows_m ? json_integer((json_int_t)r->rows_m) : json_null());
	if (r->experts) {
		json_object_set_new(object, "skew", json_real(r->skew));
		json_object_set_new(object, "routing_seed",
				    json_integer((json_int_t)r->routing_seed));
	}
	set_count(object, "threads", r->threads);
	set_count(object, "samples", r->samples);
	set_measured(object, r);
	return object;
}

static json_t *den_of(const struct perf_ratio *r)
{
	if (r->is_rate)
		return json_null();
	return r->den_plus ? json_sprintf("r%u+r%u", r->den, r->den_plus) : id_of(r->den);
}

static json_t *ratio(const struct perf_ratio *r)
{
	json_t *bar = r->bar > 0 ? json_sprintf("%s %.2f", perf_bar_sign(r), r->bar) : json_null();

	return json_pack("{s:s, s:o, s:o, s:s?, s:f, s:o, s:i, s:i, s:b}", "name", r->name, "num",
			 id_of(r->num), "den", den_of(r), "unit", r->is_rate ? "GB/s" : NULL,
			 "value", r->value, "bar", bar, "runs_met", (int)r->runs_met, "runs",
			 (int)r->runs, "pass", (int)r->pass);
}

static void set_lists(json_t *root, const struct perf_report *report)
{
	json_t *results = json_array(), *ratios = json_array(), *skipped = json_array(),
	       *argv = json_array();

	for (int i = 0; i < report->argc; i++)
		json_array_append_new(argv, json_string(report->argv[i]));
	for (unsigned i = 0; i < report->results_count; i++)
		json_array_append_new(results, result(&report->results[i]));
	for (unsigned i = 0; i < report->ratios_count; i++)
		json_array_append_new(ratios, ratio(&report->ratios[i]));
	for (unsigned i = 0; i < report->skipped_count; i++)
		json_array_append_new(skipped,
				      json_pack("{s:s, s:s}", "what", report->skipped[i].what,
						"why", report->skipped[i].why));
	json_object_set_new(root, "argv", argv);
	json_object_set_new(root, "host", host(report));
	json_object_set_new(root, "software", software(report));
	json_object_set_new(root, "results", results);
	json_object_set_new(root, "ratios", ratios);
	json_object_set_new(root, "skipped", skipped);
}

/* "0.1.0 (0123456789ab)" */
static void set_version(json_t *root)
{
	char version[32] = "", commit[64] = "";

	sscanf(accel_version(), "%31s (%63[^)])", version, commit);
	json_object_set_new(root, "version", json_string(version));
	json_object_set_new(root, "commit", json_string(commit));
}

bool perf_report_write(const struct perf_report *report, const char *path)
{
	json_t *root = json_pack("{s:s}", "schema", "accel-perf/1");
	FILE *file = fopen(path, "we");
	bool ok = false;

	if (file && root) {
		set_version(root);
		set_lists(root, report);
		json_object_set_new(root, "verdict",
				    json_string(perf_report_is_pass(report) ? "pass" : "fail"));
		ok = !json_dumpf(root, file, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) &&
		     fputc('\n', file) != EOF;
	}
	if (file && fclose(file))
		ok = false;
	if (!ok)
		perror(path);
	json_decref(root);
	return ok;
}
