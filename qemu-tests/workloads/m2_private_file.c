/* SPDX-License-Identifier: GPL-2.0 */
/*
 * M2: private mappings of a file, some pages of which were written. The file LOG.m2 lies on the shared directory.
 * Written pages keep what was written, the others show the file.
 */
#include "check.h"
#include <sys/mman.h>

#define PAGE 4096ul
#define PAGES 256ul

int main(int argc, char **argv)
{
	char path[PATH_MAX + 8];
	uint64_t *page = malloc(PAGE);
	char *writable, *readonly, *later, *tail;
	unsigned long turns = 0;
	int fd;

	check_begin(argc, argv, "m2_private_file");
	snprintf(path, sizeof(path), "%s.m2", check.log);
	fd = CHECK_CALL("open", open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	for (unsigned long i = 0; i < PAGES; i++) {
		check_fill(page, PAGE, 1000 + i);
		CHECK_EQUAL("write", write(fd, page, PAGE), PAGE);
	}
	/* The file ends inside a page. */
	CHECK_EQUAL("write", write(fd, "end", 3), 3);
	CHECK_CALL("fsync", fsync(fd));
	close(fd);
	fd = CHECK_CALL("open", open(path, O_RDONLY | O_CLOEXEC));
	writable = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	readonly = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	later = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 64 * PAGE);
	tail = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, PAGES * PAGE);
	CHECK(writable != MAP_FAILED && readonly != MAP_FAILED && later != MAP_FAILED && tail != MAP_FAILED, "mmap: %s",
	      strerror(errno));
	close(fd);
	for (unsigned long i = 0; i < PAGES; i += 3)
		check_fill(writable + i * PAGE, PAGE, 2000 + i);
	/* Written, then made read-only, as the loader does with relocated data. */
	for (unsigned long i = 0; i < 64; i += 2)
		check_fill(later + i * PAGE, PAGE, 3000 + i);
	CHECK_CALL("mprotect", mprotect(later, 64 * PAGE, PROT_READ));
	memcpy(tail + 100, "behind the end", 15);
	check_ready();

	do {
		/* One more page is written in each turn, so some are written after a move. */
		unsigned long fresh = (turns % PAGES) / 3 * 3 + 1;

		for (unsigned long i = 0; i < PAGES; i++) {
			check_filled("read-only", readonly + i * PAGE, PAGE, 1000 + i);
			if (i % 3 != 1)
				check_filled("writable", writable + i * PAGE, PAGE, i % 3 ? 1000 + i : 2000 + i);
		}
		if (fresh < PAGES)
			check_fill(writable + fresh * PAGE, PAGE, 4000 + fresh);
		for (unsigned long i = 0; i < 64; i++)
			check_filled("relocated", later + i * PAGE, PAGE, i % 2 ? 1064 + i : 3000 + i);
		CHECK(!memcmp(tail, "end\0\0", 5), "last page: expected end, got %.5s", tail);
		CHECK(!strcmp(tail + 100, "behind the end"), "behind the end of the file: got %.20s", tail + 100);
		turns++;
	} while (!check_turn());

	/* Nothing of it has reached the file. */
	fd = CHECK_CALL("open", open(path, O_RDONLY | O_CLOEXEC));
	for (unsigned long i = 0; i < PAGES; i++) {
		CHECK_EQUAL("read", read(fd, page, PAGE), PAGE);
		check_filled("file", page, PAGE, 1000 + i);
	}
	unlink(path);
	check_done(turns);
}
