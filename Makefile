# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The accel authors
#
# Builds user space into $(BUILD) without root, with gcc or clang, libjansson and the headers of libdrm and libibverbs
# (which is loaded when it is needed, never linked). Sources are found by folder, so a new file needs no line here.
# `make help` lists the targets.
#
# Variables: CC, CFLAGS, V=1 (whole commands), WERROR= (warnings stay warnings), PREFIX, DESTDIR,
# SANITIZE=address,undefined or thread (objects then go to build/asan or build/tsan unless BUILD says otherwise).

VERSION := 0.1.0
SONAME  := libaccel.so.0

BUILD    ?= build$(if $(SANITIZE),/$(if $(findstring thread,$(SANITIZE)),tsan,asan))
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
CFLAGS   ?= -g
WERROR   ?= $(if $(SANITIZE),,-Werror)
OBJCOPY  ?= objcopy
INSTALL  ?= install

OBJ := $(BUILD)/obj
LIB := $(BUILD)/lib
BIN := $(BUILD)/bin
MAN := $(BUILD)/man
Q   := $(if $(V),,@)
say  = $(if $(V),:,printf '  %-8s%s\n' $(1) $(2))

# ---- Sources, a folder a component -----------------------------------------------------------------------------------

# The file's name says what its code may assume of the CPU; kernels/table.c asks the CPU before it calls any of them.
X86_SRC     := $(wildcard kernels/cpu/*_avx2.c kernels/cpu/*_avx512*.c)
KERNELS_SRC := $(wildcard kernels/*.c kernels/ref/*.c kernels/cpu/*.c)
ifeq ($(findstring x86_64,$(shell $(CC) -dumpmachine 2>/dev/null)),)
KERNELS_SRC := $(filter-out $(X86_SRC),$(KERNELS_SRC))
endif
ACCEL_SRC   := $(wildcard libaccel/*.c)
PERF_SRC    := $(wildcard libaccel/tools/perf*.c)
CTL_SRC     := $(wildcard libaccel/tools/ctl*.c)
PERF_EP_SRC := $(patsubst %,libaccel/tools/perf_%.c,bars case ep ep_opts floor json machine progress ranks report rows \
	team)
MPI_SRC     := $(wildcard libaccel/tools/mpi*.c)
MOE_SRC     := $(wildcard runtime/accel-moe.c)
MOE_MPI_SRC := $(wildcard runtime/exchange_mpi.c)
RUNTIME_SRC := $(filter-out $(MOE_SRC) $(MOE_MPI_SRC),$(wildcard runtime/*.c))
HELPER_SRC  := $(wildcard tests/*.c)
TEST_SRC    := $(wildcard $(patsubst %,tests/%/*.c,uapi kernels libaccel runtime stress))
FUZZ_SRC    := $(wildcard tests/fuzz/*.c)
VERBS_SRC   := $(wildcard tests/verbs/*.c)
VM_SRC      := $(wildcard tests/vm/*.c)
HEADERS     := $(wildcard libaccel/include/accel/*.h)

objects = $(patsubst %.c,$(OBJ)/%.o,$(1))

ARCHIVES := $(if $(RUNTIME_SRC),$(OBJ)/runtime.a) $(if $(ACCEL_SRC),$(OBJ)/accel.a) $(OBJ)/kernels.a
LIBS     := $(if $(ACCEL_SRC),$(LIB)/libaccel.so $(LIB)/libaccel.a)
# Programs that measure an MPI beside accel, where its compiler is; nothing else links one.
MPIS     := $(foreach mpi,openmpi mpich,$(if $(shell command -v mpicc.$(mpi)),$(mpi)))
BINS     := $(if $(CTL_SRC),$(BIN)/accelctl) $(if $(PERF_SRC),$(BIN)/accel-perf) $(if $(MOE_SRC),$(BIN)/accel-moe) \
	$(if $(SANITIZE),,$(addprefix $(BIN)/accel-perf-,$(MPIS)) $(addprefix $(BIN)/accel-moe-,$(MPIS)))
TESTS    := $(patsubst tests/%.c,$(BUILD)/tests/%.t,$(TEST_SRC))
# Programs for a guest (mk/vm.sh): they may link libibverbs, and no sanitizer runs there.
VM_TESTS := $(if $(SANITIZE),,$(patsubst tests/%.c,$(BUILD)/tests/%.t,$(VM_SRC)))
# Stand-ins for libibverbs that tests name by verbs.library: NAME out of tests/verbs/NAME.c and NAME_*.c.
VERBS    := $(foreach name,loop record,$(BUILD)/tests/verbs/libaccel-verbs-$(name).so)
FUZZERS  := $(patsubst tests/%.c,$(BUILD)/tests/%,$(FUZZ_SRC))
MAN1_SRC := $(wildcard libaccel/tools/*.1 runtime/*.1)

# ---- Flags -----------------------------------------------------------------------------------------------------------

# Results are defined bit for bit, so nothing may fuse, reassociate or assume away NaN, whatever CFLAGS says.
OPT      := -O2
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith $(WERROR)
CODE     := -std=gnu11 -ffp-contract=off -fno-fast-math -fPIC -fvisibility=hidden -pthread
DRM_INC  := $(or $(shell pkg-config --cflags libdrm 2>/dev/null),-I/usr/include/libdrm)
SAN      := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
COMPILE   = $(CC) $(WARNINGS) $(OPT) $(ISA) $(CFLAGS) $(CODE) $(SAN) -I. -Iuapi -Ikernels $(INC) $(CPPFLAGS)
LINK      = $(CC) $(CFLAGS) $(SAN) -pthread -Wl,--as-needed -Wl,-z,relro -Wl,-z,now $(LDFLAGS)

$(OBJ)/kernels/%.o $(OBJ)/simde/%.o: OPT := -O3
$(OBJ)/libaccel/%.o:   INC := -Ilibaccel/include -Ilibaccel -I$(BUILD)/include $(DRM_INC)
$(OBJ)/runtime/%.o:    INC := -Ilibaccel/include -Iruntime
$(OBJ)/tests/%.o:      INC := -Ilibaccel/include -Itests -Ilibaccel -Iruntime $(DRM_INC)
$(OBJ)/%_avx2.o:       ISA := -mavx2 -mfma -mf16c
$(OBJ)/%_avx512.o:     ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw
$(OBJ)/%_avx512bf16.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vbmi -mavx512bf16

# ---- Targets ---------------------------------------------------------------------------------------------------------

all: tools man				## build libraries, tools and man pages (the default)

tools: $(LIBS) $(BINS)

tests: all test-programs		## build the test programs too

test-programs: $(TESTS) $(VM_TESTS) $(VERBS)

fuzzers: $(FUZZERS)

check:					## install what is missing, build every variant, run every test
	$(Q)mk/check.sh

MINUTES ?= 1
stress: test-programs			## random exchanges and faults for MINUTES (1), out of SEED
	$(Q)BUILD=$(BUILD) MINUTES=$(MINUTES) mk/stress.sh

check-debug-kernel:			## accel.ko on a kernel with KASAN, lockdep, injected faults
	$(Q)BUILD=$(BUILD) mk/check-debug-kernel.sh

demo:					## run R1 MoE layers across four ranks of this machine, checked
	$(Q)mk/demo.sh

bench:					## measure beside every floor and peer; QUICK=1 in 3 minutes
	$(Q)mk/bench.sh $(if $(QUICK),--quick)

bench-rdma:				## beside perftest and MPI over RDMA: DEVICES=A,B HOSTS=A,B, or in guests
	$(Q)mk/bench-rdma.sh $(if $(QUICK),--quick) $(if $(DEVICES),--devices $(DEVICES)) \
		$(if $(HOSTS),--hosts $(HOSTS))

deps:					## install what build, driver and check need (root), or say the command
	$(Q)mk/deps.sh build driver check

driver:					## build accel.ko for the kernel of KDIR (the running one)
	+$(Q)mk/driver.sh '$(or $(KDIR),/lib/modules/$(shell uname -r)/build)' $(BUILD)/driver KCFLAGS='$(WERROR)'

# Modules that tests in a guest load, for the kernel of accel.ko; built beside links to their sources, by kernel.
VM_MODULE_SRC := $(wildcard tests/vm/modules/Kbuild tests/vm/modules/*.[ch])
test-modules:
	$(Q)$(if $(VM_MODULE_SRC),kdir=$(or $(KDIR),$$(mk/kernel.sh KDIR)) && \
	dir=$(abspath $(BUILD)/tests/vm/modules)/$$(cat "$$kdir/include/config/kernel.release") && \
	mkdir -p "$$dir" && ln -sf $(abspath $(VM_MODULE_SRC)) "$$dir" && \
	$(MAKE) $(if $(V),,-s) -C "$$kdir" M="$$dir" CONFIG_DEBUG_INFO_BTF_MODULES= modules)

clean:					## remove everything that was built
	rm -rf build $(BUILD)

help:					## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@awk '/^# Variables:/, !/^#/ { sub(/^# ?/, ""); print }' $(firstword $(MAKEFILE_LIST))

.PHONY: all tools tests test-programs test-modules fuzzers check stress demo bench bench-rdma deps driver clean \
	help man install uninstall driver-install driver-uninstall driver-matrix check-debug-kernel FORCE
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:

# ---- Rules -----------------------------------------------------------------------------------------------------------

# $(call keep,TEXT): write TEXT to $@ only if that changes it, so that only then something is rebuilt.
keep = @mkdir -p $(@D); printf '%s\n' $(1) | cmp -s - $@ || printf '%s\n' $(1) > $@

$(OBJ)/flags: FORCE
	$(call keep,'$(COMPILE) $(LINK)')

$(OBJ)/sources: FORCE
	$(call keep,'$(KERNELS_SRC) $(ACCEL_SRC) $(RUNTIME_SRC) $(PERF_SRC) $(CTL_SRC) $(MPI_SRC) $(HELPER_SRC)')

# git's words for the commit change with it; version.c alone includes them.
COMMIT := git describe --always --dirty --abbrev=12 --exclude='*'
$(BUILD)/include/build_info.h: FORCE
	$(call keep,'#define ACCEL_BUILD_VERSION "$(VERSION)"' \
		"#define ACCEL_BUILD_COMMIT \"$$($(COMMIT) 2>/dev/null || echo unknown)\"")

$(OBJ)/libaccel/version.o: $(BUILD)/include/build_info.h

# A header that one peer of accel-perf is built with, and does without: when it appears, that peer is built again.
ONEDNN_H := $(wildcard /usr/include/oneapi/dnnl/dnnl.h /usr/local/include/oneapi/dnnl/dnnl.h)
$(OBJ)/onednn: FORCE
	$(call keep,'$(ONEDNN_H)')

$(OBJ)/libaccel/tools/perf_onednn.o: $(OBJ)/onednn

$(OBJ)/toolchain:
	@mkdir -p $(@D)
	@echo '#include <stdio.h>' | $(CC) -E - >/dev/null 2>&1 || \
		{ echo "no working C compiler ($(CC)): run 'make deps'" >&2; exit 1; }
	@echo '#include <jansson.h>' | $(CC) $(CPPFLAGS) -E - >/dev/null 2>&1 || \
		{ echo "no jansson.h (Debian: libjansson-dev): run 'make deps'" >&2; exit 1; }
	@echo '#include <drm.h>' | $(CC) $(CPPFLAGS) $(DRM_INC) -E - >/dev/null 2>&1 || \
		{ echo "no drm.h (Debian: libdrm-dev): run 'make deps'" >&2; exit 1; }
	@echo '#include <infiniband/verbs.h>' | $(CC) $(CPPFLAGS) -E - >/dev/null 2>&1 || \
		{ echo "no infiniband/verbs.h (Debian: libibverbs-dev): run 'make deps'" >&2; exit 1; }
	@touch $@

$(OBJ)/%.o: %.c $(OBJ)/flags Makefile | $(OBJ)/toolchain
	@mkdir -p $(@D)
	@$(call say,CC,$<)
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

# Archives of all objects, internal symbols included: for our own tools and tests.
$(OBJ)/kernels.a: $(call objects,$(KERNELS_SRC))
$(OBJ)/accel.a:   $(call objects,$(ACCEL_SRC))
$(OBJ)/runtime.a: $(call objects,$(RUNTIME_SRC))
$(OBJ)/tests.a:   $(call objects,$(HELPER_SRC))
$(OBJ)/%.a: $(OBJ)/sources
	@$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcsD $@ $(filter %.o,$^)

$(LIB)/libaccel.so.$(VERSION): $(call objects,$(ACCEL_SRC)) $(OBJ)/kernels.a $(OBJ)/sources libaccel/libaccel.map
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LINK) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=libaccel/libaccel.map \
		$(if $(SANITIZE),,-Wl,-z,defs) -o $@ $(filter %.o %.a,$^) -lm -ldl

$(LIB)/libaccel.so: $(LIB)/libaccel.so.$(VERSION)
	$(Q)ln -sf libaccel.so.$(VERSION) $(LIB)/$(SONAME)
	$(Q)ln -sf $(SONAME) $@

# The static library as others link it: one object, in which only the public symbols are global.
$(LIB)/libaccel.a: $(call objects,$(ACCEL_SRC) $(KERNELS_SRC)) $(OBJ)/sources
	@mkdir -p $(@D)
	@$(call say,AR,$@)
	$(Q)$(LD) -r -o $(OBJ)/accel-all.o $(filter %.o,$^)
	$(Q)$(OBJCOPY) --localize-hidden $(OBJ)/accel-all.o
	$(Q)rm -f $@ && $(AR) rcsD $@ $(OBJ)/accel-all.o

RUN_LINK = $(LINK) -Wl,-rpath,'$$ORIGIN/../lib' -o $@ $(filter %.o %.a,$^) -L$(LIB) -laccel -ljansson -lm -ldl

$(BIN)/accelctl: $(call objects,$(CTL_SRC)) $(OBJ)/sources | $(LIB)/libaccel.so
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(RUN_LINK)

$(BIN)/accel-perf: $(call objects,$(PERF_SRC)) $(OBJ)/kernels.a $(OBJ)/sources | $(LIB)/libaccel.so
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(RUN_LINK)

# An MPI's own compiler finds its headers and libraries; what it calls in turn is $(CC).
define mpi_rules
$(OBJ)/$(1)/%.o: %.c $(OBJ)/flags Makefile | $(OBJ)/toolchain
	@mkdir -p $$(@D)
	@$$(call say,CC,$$<)
	$(Q)OMPI_CC="$(CC)" MPICH_CC="$(CC)" $$(COMPILE) -MMD -MP -c -o $$@ $$<

$(OBJ)/$(1)/libaccel/%.o: INC := -Ilibaccel/include -Ilibaccel -I$(BUILD)/include
$(OBJ)/$(1)/runtime/%.o: INC := -Ilibaccel/include -Iruntime
$(OBJ)/$(1)/%.o $(BIN)/accel-perf-$(1) $(BIN)/accel-moe-$(1): private override CC := mpicc.$(1)

$(BIN)/accel-perf-$(1): $(patsubst %.c,$(OBJ)/$(1)/%.o,$(MPI_SRC)) $(call objects,$(PERF_EP_SRC)) $(OBJ)/kernels.a \
		$(OBJ)/sources | $(LIB)/libaccel.so
	@mkdir -p $$(@D)
	@$$(call say,LD,$$@)
	$(Q)OMPI_CC="$(CC)" MPICH_CC="$(CC)" $$(RUN_LINK)

$(BIN)/accel-moe-$(1): $(patsubst %.c,$(OBJ)/$(1)/%.o,$(MOE_MPI_SRC) libaccel/tools/mpi_exchange.c) $(OBJ)/runtime.a \
		$(OBJ)/kernels.a $(OBJ)/sources | $(LIB)/libaccel.so
	@mkdir -p $$(@D)
	@$$(call say,LD,$$@)
	$(Q)OMPI_CC="$(CC)" MPICH_CC="$(CC)" $$(RUN_LINK)

-include $(patsubst %.c,$(OBJ)/$(1)/%.d,$(MPI_SRC) $(MOE_MPI_SRC))
endef
$(foreach mpi,$(MPIS),$(eval $(call mpi_rules,$(mpi))))

$(BIN)/accel-moe: $(call objects,$(MOE_SRC)) $(OBJ)/runtime.a $(OBJ)/kernels.a $(OBJ)/sources | $(LIB)/libaccel.so
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(RUN_LINK)

# Tests link the archives, so that they can reach what the shared library hides.
$(BUILD)/tests/%.t: $(OBJ)/tests/%.o $(OBJ)/tests.a $(ARCHIVES)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) -ljansson -lm -ldl

$(BUILD)/tests/vm/%.t: $(OBJ)/tests/vm/%.o $(OBJ)/tests.a $(ARCHIVES)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) -libverbs -ljansson -lm -ldl

$(BUILD)/tests/verbs/libaccel-verbs-%.so: $(call objects,$(VERBS_SRC))
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LINK) -shared -o $@ $(filter $(OBJ)/tests/verbs/$*.o $(OBJ)/tests/verbs/$*_%.o,$^) -ldl

$(filter $(BUILD)/tests/libaccel/verbs_%,$(TESTS)): | $(VERBS)

# Those of tests/stress link a libaccel that makes its system calls through tests/calls.c.
WRAPPED := $(shell grep -o '__wrap_[a-z0-9_]*' tests/calls.c | sed 's/__wrap_//' | sort -u)
$(OBJ)/tests/stress/libaccel.o: $(call objects,$(ACCEL_SRC)) $(OBJ)/sources tests/calls.c
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LD) -r $(WRAPPED:%=--wrap=%) -o $@ $(filter %.o,$^)

$(BUILD)/tests/stress/%.t: $(OBJ)/tests/stress/%.o $(OBJ)/tests/stress/libaccel.o $(OBJ)/tests.a $(OBJ)/kernels.a
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) -lm -ldl

# Those of tests/kernels named *_simde run the files for AVX-512 on SIMDe, where that is: any CPU with AVX2 can.
SIMDE_H    := $(wildcard /usr/include/simde/x86/avx512.h /usr/local/include/simde/x86/avx512.h)
SIMDE_SRC  := $(if $(SIMDE_H),$(filter %_avx512.c %_avx512bf16.c,$(KERNELS_SRC)))
SIMDE_OBJ  := $(patsubst %.c,$(OBJ)/simde/%.o,$(if $(SIMDE_SRC),$(SIMDE_SRC) tests/kernels/simde/has.c))
SIMDE_TEST := $(patsubst tests/%.c,%,$(wildcard tests/kernels/*_simde.c))

$(SIMDE_OBJ): ISA := -mavx2 -mfma -mf16c -Wno-psabi
# What SIMDe makes of one intrinsic is many lines: with a sanitizer's checks in them -O3 takes minutes.
$(SIMDE_OBJ): OPT := $(if $(SANITIZE),-O1,-O3)
$(SIMDE_OBJ): INC := -Itests/kernels/simde
$(SIMDE_OBJ): $(OBJ)/simde/%.o: %.c $(OBJ)/flags Makefile | $(OBJ)/toolchain
	@mkdir -p $(@D)
	@$(call say,SIMDE,$<)
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<

$(OBJ)/simde/objects: FORCE
	$(call keep,'$(SIMDE_OBJ)')

$(SIMDE_TEST:%=$(OBJ)/tests/%.o): INC += $(if $(SIMDE_OBJ),-DHAS_SIMDE)
$(SIMDE_TEST:%=$(OBJ)/tests/%.o): $(OBJ)/simde/objects
$(SIMDE_TEST:%=$(BUILD)/tests/%.t): $(BUILD)/tests/%.t: $(OBJ)/tests/%.o $(SIMDE_OBJ) $(OBJ)/tests.a $(ARCHIVES)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) -ljansson -lm -ldl

# Fuzz targets have no main(); they need CC=clang and SANITIZE=fuzzer-no-link,address,undefined.
$(BUILD)/tests/fuzz/%: $(OBJ)/tests/fuzz/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(call say,LD,$@)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $(filter %.o %.a,$^) -ljansson -lm -ldl

# Man pages come from the public headers' own comments; those of the tools are written by hand.
man: $(MAN)/stamp

$(MAN)/stamp: $(HEADERS) $(MAN1_SRC) mk/man.awk
	@$(call say,MAN,$(MAN))
	$(Q)rm -rf $(MAN) && mkdir -p $(MAN)/man1 $(MAN)/man3 $(MAN)/man7
	$(Q)for h in $(HEADERS); do awk -f mk/man.awk -v out=$(MAN) -v name=$$(basename $$h .h) -v version=$(VERSION) \
		-v date="$$(LC_ALL=C date -r $$h '+%B %-d, %Y')" $$h || exit 1; done
	$(Q)$(if $(MAN1_SRC),cp $(MAN1_SRC) $(MAN)/man1/)
	$(Q)touch $@

# ---- Installing ------------------------------------------------------------------------------------------------------

bindir     = $(DESTDIR)$(PREFIX)/bin
libdir     = $(DESTDIR)$(LIBDIR)
includedir = $(DESTDIR)$(PREFIX)/include/accel
mandir     = $(DESTDIR)$(PREFIX)/share/man
bashdir    = $(DESTDIR)$(PREFIX)/share/bash-completion/completions

install: all				## put headers, libraries, accel.pc, tools, man pages into DESTDIR/PREFIX
	$(Q)$(INSTALL) -d $(bindir) $(libdir)/pkgconfig $(includedir) $(mandir)/man1 $(mandir)/man3 $(mandir)/man7 \
		$(bashdir)
	$(Q)$(INSTALL) -m 644 $(HEADERS) $(includedir)
	$(Q)$(INSTALL) -m 644 $(LIB)/libaccel.a $(libdir)
	$(Q)$(INSTALL) -m 755 $(LIB)/libaccel.so.$(VERSION) $(libdir)
	$(Q)ln -sf libaccel.so.$(VERSION) $(libdir)/$(SONAME)
	$(Q)ln -sf $(SONAME) $(libdir)/libaccel.so
	$(Q)sed 's|@prefix@|$(PREFIX)|; s|@libdir@|$(LIBDIR)|; s|@version@|$(VERSION)|' mk/accel.pc.in \
		>$(libdir)/pkgconfig/accel.pc
	$(Q)$(if $(BINS),$(INSTALL) -m 755 $(BINS) $(bindir))
	$(Q)$(INSTALL) -m 644 libaccel/tools/accelctl.bash $(bashdir)/accelctl
	$(Q)for page in $(MAN)/man?/*.?; do $(INSTALL) -m 644 $$page $(mandir)/$${page#$(MAN)/} || exit 1; done

uninstall: man				## remove what install put there
	$(Q)rm -f $(patsubst $(BIN)/%,$(bindir)/%,$(BINS)) $(bashdir)/accelctl
	$(Q)rm -f $(libdir)/libaccel.so* $(libdir)/libaccel.a $(libdir)/pkgconfig/accel.pc
	$(Q)rm -f $(patsubst libaccel/include/accel/%,$(includedir)/%,$(HEADERS))
	$(Q)for page in $(MAN)/man?/*.?; do rm -f $(mandir)/$${page#$(MAN)/}; done
	$(Q)[ ! -d $(includedir) ] || rmdir $(includedir)

driver-install:				## accel.ko for each kernel by dkms, udev rule, limits, accel(4); DESTDIR
	$(Q)VERSION=$(VERSION) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) mk/driver-install.sh install

driver-matrix:				## build accel.ko against the headers of every kernel from 6.12 on
	$(Q)BUILD=$(BUILD) mk/driver-matrix.sh

driver-uninstall:			## remove what driver-install put there
	$(Q)VERSION=$(VERSION) PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) mk/driver-install.sh uninstall

-include $(patsubst %.o,%.d,$(call objects,$(KERNELS_SRC) $(ACCEL_SRC) $(PERF_SRC) $(CTL_SRC) $(MOE_SRC) \
	$(RUNTIME_SRC) $(HELPER_SRC) $(TEST_SRC) $(VM_SRC) $(FUZZ_SRC) $(VERBS_SRC)) $(SIMDE_OBJ))
