/* SPDX-License-Identifier: GPL-2.0 */
/*
 * M1: heap, stack, anonymous mappings of every protection. Heap and stack go on growing in each turn, so they do so
 * after a move too. large=<MiB> (default 64) is the size of the largest mapping.
 */
#include "check.h"
#include <sys/mman.h>

#define PAGE 4096ul

/* Uses one more piece of stack for every level and checks it on the way back. */
__attribute__((noinline)) static uint64_t deeper(unsigned int levels)
{
	volatile uint64_t piece[512];
	uint64_t below;

	for (unsigned int i = 0; i < 512; i++)
		piece[i] = check_word(levels, i);
	below = levels ? deeper(levels - 1) : 0;
	for (unsigned int i = 0; i < 512; i++)
		CHECK(piece[i] == check_word(levels, i), "stack level %u word %u: expected %#llx, got %#llx", levels, i,
		      (unsigned long long)check_word(levels, i), (unsigned long long)piece[i]);
	return below + 1;
}

static void *map(size_t length, int protection)
{
	void *start = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(start != MAP_FAILED, "mmap: %s", strerror(errno));
	return start;
}

int main(int argc, char **argv)
{
	static char bss[256 * PAGE];
	static char data[PAGE] = "initialised";
	enum { STEP = 3 * PAGE };
	size_t large;
	char *heap, *none, *readonly, *mixed, *executable, *big, *zeroed;
	unsigned long turns = 0, steps = 0;
	uint8_t code[] = { 0xb8, 0x2a, 0, 0, 0, 0xc3 }; /* mov eax, 42; ret */

	check_begin(argc, argv, "m1_anonymous_memory");
	large = check_number("large", 64) << 20;

	check_fill(bss, sizeof(bss), 1);
	none = map(16 * PAGE, PROT_READ | PROT_WRITE);
	check_fill(none, 16 * PAGE, 2);
	CHECK_CALL("mprotect none", mprotect(none, 16 * PAGE, PROT_NONE));
	readonly = map(16 * PAGE, PROT_READ | PROT_WRITE);
	check_fill(readonly, 16 * PAGE, 3);
	CHECK_CALL("mprotect read", mprotect(readonly, 16 * PAGE, PROT_READ));
	/* Every second page has another protection, which makes many mappings. */
	mixed = map(128 * PAGE, PROT_READ | PROT_WRITE);
	check_fill(mixed, 128 * PAGE, 4);
	for (int i = 0; i < 128; i += 2)
		CHECK_CALL("mprotect mixed", mprotect(mixed + i * PAGE, PAGE, PROT_READ));
	executable = map(PAGE, PROT_READ | PROT_WRITE);
	memcpy(executable, code, sizeof(code));
	CHECK_CALL("mprotect execute", mprotect(executable, PAGE, PROT_READ | PROT_EXEC));
	zeroed = map(64 * PAGE, PROT_READ | PROT_WRITE);
	memset(zeroed, 0, 64 * PAGE); /* present, and zero */
	check_zero("touched by reading only", map(64 * PAGE, PROT_READ | PROT_WRITE), 64 * PAGE);
	big = map(large, PROT_READ | PROT_WRITE);
	check_fill(big, large, 5);
	heap = sbrk(0);
	/* glibc's own heap must not move the break in between. */
	heap = (char *)(((uintptr_t)heap + 15) & ~15ul);
	CHECK_CALL("sbrk", sbrk(heap - (char *)sbrk(0)));
	check_ready();

	do {
		char *before = sbrk(STEP);

		CHECK(before != (void *)-1, "sbrk: %s", strerror(errno));
		CHECK(before == heap + steps * STEP, "break: expected %p, got %p", heap + steps * STEP, before);
		check_zero("fresh heap", before, STEP);
		check_fill(before, STEP, 100 + steps);
		steps++;
		for (unsigned long i = 0; i < steps; i++)
			check_filled("heap", heap + i * STEP, STEP, 100 + i);
		CHECK_EQUAL("stack levels", deeper(8 + turns % 900), 9 + turns % 900);
		check_filled("bss", bss, sizeof(bss), 1);
		CHECK(!strcmp(data, "initialised"), "data: expected initialised, got %.20s", data);
		check_filled("read-only", readonly, 16 * PAGE, 3);
		check_filled("mixed", mixed, 128 * PAGE, 4);
		check_zero("zeroed", zeroed, 64 * PAGE);
		/* A part of the large one each time; all of it at the end. */
		check_filled("large", big, PAGE, 5);
		CHECK_EQUAL("code", ((int (*)(void))executable)(), 42);
		turns++;
		if (steps == 200) {
			CHECK_CALL("sbrk down", sbrk(-(long)(steps * STEP)));
			steps = 0;
		}
	} while (!check_turn());

	check_filled("large", big, large, 5);
	CHECK_CALL("mprotect none again", mprotect(none, 16 * PAGE, PROT_READ));
	check_filled("PROT_NONE", none, 16 * PAGE, 2);
	CHECK_CALL("mprotect write", mprotect(readonly, 16 * PAGE, PROT_READ | PROT_WRITE));
	check_fill(readonly, 16 * PAGE, 6);
	check_filled("read-only written", readonly, 16 * PAGE, 6);
	/* The stack grows by far more than it ever had. */
	CHECK_EQUAL("deep stack", deeper(1500), 1501);
	check_done(turns);
}
