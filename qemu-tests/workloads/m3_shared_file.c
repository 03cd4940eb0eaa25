/* SPDX-License-Identifier: GPL-2.0 */
/*
 * M3: a shared mapping of a file on the shared directory whose pages are dirty in memory when the program moves, and
 * a shared anonymous mapping that no other process has. anonymous=0 leaves the second out, file=0 the first.
 */
#include "check.h"
#include <sys/mman.h>

#define PAGE 4096ul
#define PAGES 128ul

int main(int argc, char **argv)
{
	char path[PATH_MAX + 8], *file = NULL, *readonly = NULL, *anonymous = NULL;
	uint64_t *page = malloc(PAGE);
	unsigned long turns = 0;
	int fd;

	check_begin(argc, argv, "m3_shared_file");
	snprintf(path, sizeof(path), "%s.m3", check.log);
	if (check_number("file", 1)) {
		fd = CHECK_CALL("open", open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
		CHECK_CALL("ftruncate", ftruncate(fd, PAGES * PAGE));
		CHECK_CALL("fsync", fsync(fd));
		file = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		readonly = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
		CHECK(file != MAP_FAILED && readonly != MAP_FAILED, "mmap of a file: %s", strerror(errno));
		close(fd);
		for (unsigned long i = 0; i < PAGES; i++)
			check_fill(file + i * PAGE, PAGE, i);
	}
	if (check_number("anonymous", 1)) {
		anonymous = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		CHECK(anonymous != MAP_FAILED, "mmap: %s", strerror(errno));
		for (unsigned long i = 0; i < PAGES; i += 2)
			check_fill(anonymous + i * PAGE, PAGE, 500 + i);
	}
	check_ready();

	/* Page i holds the seed i + PAGES * (number of times it was written). */
	do {
		for (unsigned long i = 0; file && i < PAGES; i++) {
			unsigned long times = turns / PAGES + (i < turns % PAGES);

			check_filled("shared file", file + i * PAGE, PAGE, i + PAGES * times);
			check_filled("shared file, read-only", readonly + i * PAGE, PAGE, i + PAGES * times);
		}
		for (unsigned long i = 0; anonymous && i < PAGES; i += 2)
			check_filled("shared anonymous", anonymous + i * PAGE, PAGE, 500 + i);
		if (file)
			check_fill(file + turns % PAGES * PAGE, PAGE, turns % PAGES + PAGES * (turns / PAGES + 1));
		turns++;
	} while (!check_turn());

	if (anonymous)
		for (unsigned long i = 1; i < PAGES; i += 2)
			check_zero("shared anonymous, untouched", anonymous + i * PAGE, PAGE);
	if (file) {
		CHECK_CALL("msync", msync(file, PAGES * PAGE, MS_SYNC));
		fd = CHECK_CALL("open", open(path, O_RDONLY | O_CLOEXEC));
		for (unsigned long i = 0; i < PAGES; i++) {
			unsigned long times = turns / PAGES + (i < turns % PAGES);

			CHECK_EQUAL("read", read(fd, page, PAGE), PAGE);
			check_filled("file", page, PAGE, i + PAGES * times);
		}
		unlink(path);
	}
	check_done(turns);
}
