/* SPDX-License-Identifier: GPL-2.0 */
/* M1: the vdso is where it was and answers; the auxiliary vector, arguments and environment are the same. */
#include "check.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

extern char **environ;

/* Hash of the bytes of a file of procfs. */
static uint64_t hash_of(const char *path)
{
	uint64_t hash = 14695981039346656037u;
	unsigned char buffer[4096];
	ssize_t length;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	while ((length = read(fd, buffer, sizeof(buffer))) > 0)
		for (ssize_t i = 0; i < length; i++)
			hash = (hash ^ buffer[i]) * 1099511628211u;
	CHECK(!length, "%s: %s", path, strerror(errno));
	close(fd);
	return hash;
}

/* Where /proc/self/maps shows a mapping of this name. */
static unsigned long place_of(const char *name)
{
	char line[512];
	unsigned long start = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	CHECK(maps, "maps: %s", strerror(errno));
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, name))
			start = strtoul(line, NULL, 16);
	fclose(maps);
	return start;
}

int main(int argc, char **argv)
{
	static const int types[] = { AT_SYSINFO_EHDR, AT_PHDR, AT_ENTRY, AT_RANDOM, AT_EXECFN, AT_HWCAP, AT_PLATFORM,
				     AT_PAGESZ, AT_CLKTCK };
	enum { TYPES = sizeof(types) / sizeof(types[0]) };
	unsigned long values[TYPES], vdso, vvar, stack, heap, turns = 0;
	uint64_t auxv, cmdline, environment, random[2];
	int64_t last = 0;

	setenv("PMIG_WORKLOAD", "environment of the workload", 1);
	check_begin(argc, argv, "m1_vdso_and_auxv");
	for (int i = 0; i < TYPES; i++)
		values[i] = getauxval(types[i]);
	memcpy(random, (void *)getauxval(AT_RANDOM), 16);
	vdso = place_of("[vdso]");
	vvar = place_of("[vvar]");
	stack = place_of("[stack]");
	free(malloc(100000));
	heap = place_of("[heap]");
	CHECK_EQUAL("AT_SYSINFO_EHDR", getauxval(AT_SYSINFO_EHDR), vdso);
	auxv = hash_of("/proc/self/auxv");
	cmdline = hash_of("/proc/self/cmdline");
	environment = hash_of("/proc/self/environ");
	check_ready();

	do {
		for (int i = 0; i < 2000; i++) {
			int64_t now = check_clock(CLOCK_MONOTONIC);

			CHECK(now >= last, "vdso clock: went from %lld to %lld", (long long)last, (long long)now);
			last = now;
		}
		for (int i = 0; i < 20; i++) {
			/* The vdso and the kernel must speak of the same clock. */
			struct timespec t;
			int64_t before = check_clock(CLOCK_MONOTONIC), between, after;

			syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
			between = t.tv_sec * 1000000000LL + t.tv_nsec;
			after = check_clock(CLOCK_MONOTONIC);
			CHECK(before <= between && between <= after, "vdso %lld, system call %lld, vdso %lld",
			      (long long)before, (long long)between, (long long)after);
		}
		CHECK(!memcmp((void *)vdso, ELFMAG, SELFMAG), "no ELF header at the vdso");
		for (int i = 0; i < TYPES; i++)
			CHECK_EQUAL("getauxval", getauxval(types[i]), values[i]);
		CHECK(!memcmp(random, (void *)getauxval(AT_RANDOM), 16), "AT_RANDOM differs");
		CHECK_EQUAL("vdso in maps", place_of("[vdso]"), vdso);
		CHECK_EQUAL("vvar in maps", place_of("[vvar]"), vvar);
		CHECK_EQUAL("heap in maps", place_of("[heap]"), heap);
		CHECK(place_of("[stack]") <= stack, "stack in maps: expected %#lx, got %#lx", stack, place_of("[stack]"));
		CHECK_EQUAL("auxv", hash_of("/proc/self/auxv"), auxv);
		CHECK_EQUAL("cmdline", hash_of("/proc/self/cmdline"), cmdline);
		CHECK_EQUAL("environ", hash_of("/proc/self/environ"), environment);
		CHECK(!strcmp(getenv("PMIG_WORKLOAD"), "environment of the workload"), "getenv differs");
		turns++;
	} while (!check_turn());
	check_done(turns);
}
