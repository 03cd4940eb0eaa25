/* SPDX-License-Identifier: GPL-2.0 */
/*
 * M1: a mapping of 64 GiB with few pages in it, one of size=<MiB> (default 1024) that was touched and given back but for
 * a page here and there, and pages that hold only zeros.
 */
#include "check.h"
#include <sys/mman.h>

#define PAGE 4096ul

static char *reserve(size_t length)
{
	char *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(start != MAP_FAILED, "mmap of %zu: %s", length, strerror(errno));
	madvise(start, length, MADV_NOHUGEPAGE);
	return start;
}

/* Kibibytes of memory that the program has. */
static long long resident(void)
{
	return check_status("/proc/self/status", "VmRSS", 10);
}

int main(int argc, char **argv)
{
	const size_t vast = 64ull << 30;
	size_t holed;
	unsigned long turns = 0, pages = 1000, kept = 0;
	long long before;
	char *a, *b;

	check_begin(argc, argv, "m1_sparse_memory");
	holed = check_number("size", 1024) << 20;
	a = reserve(vast);
	b = reserve(holed);
	for (unsigned long i = 0; i < pages; i++)
		check_fill(a + check_word(7, i) % (vast / PAGE) * PAGE, PAGE, 10);
	check_fill(a, PAGE, 10);
	check_fill(a + vast - PAGE, PAGE, 10);
	for (size_t at = 0; at < holed; at += PAGE)
		b[at] = 1;
	CHECK_CALL("madvise", madvise(b, holed, MADV_DONTNEED));
	for (size_t at = 0; at < holed; at += 97 * PAGE, kept++)
		check_fill(b + at, PAGE, 11);
	before = resident();
	check_ready();

	do {
		check_filled("vast: first", a, PAGE, 10);
		check_filled("vast: last", a + vast - PAGE, PAGE, 10);
		check_filled("vast", a + check_word(7, turns % pages) % (vast / PAGE) * PAGE, PAGE, 10);
		check_filled("holed", b + turns % kept * 97 * PAGE, PAGE, 11);
		/* A hole must neither come with content nor be filled for nothing. */
		if (turns % 50 == 0)
			CHECK(resident() < before + 16384, "resident memory: expected about %lld KiB, got %lld", before,
			      resident());
		turns++;
	} while (!check_turn());

	for (unsigned long i = 0; i < pages; i++)
		check_filled("vast at the end", a + check_word(7, i) % (vast / PAGE) * PAGE, PAGE, 10);
	for (size_t at = 0; at < holed; at += PAGE)
		if (at % (97 * PAGE))
			check_zero("hole", b + at, PAGE);
		else
			check_filled("kept", b + at, PAGE, 11);
	check_done(turns);
}
