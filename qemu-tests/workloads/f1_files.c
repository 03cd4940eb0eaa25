/* SPDX-License-Identifier: GPL-2.0 */
/*
 * F1: regular files and directories. Positions, flags, appending, descriptors that share a position and others that do
 * not, high numbers, holes in the numbers, close-on-exec, a directory that was read half-way. local=PATH is a file that
 * every host has a copy of (default /etc/passwd; empty for none).
 */
#include "check.h"
#include <dirent.h>
#include <sys/syscall.h>

enum { ENTRIES = 300, RECORD = 64, HIGH = 1000 };

static char base[PATH_MAX + 8];

static const char *path_of(const char *suffix)
{
	static char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s%s", base, suffix);
	return path;
}

static int open_at(int number, const char *path, int flags)
{
	int fd = open(path, flags, 0644);

	CHECK(fd >= 0, "open %s: %s", path, strerror(errno));
	if (fd != number) {
		CHECK_CALL("dup3", dup3(fd, number, flags & O_CLOEXEC));
		close(fd);
	}
	return number;
}

static void write_words(int fd, uint64_t seed, size_t count)
{
	uint64_t words[512];

	for (size_t at = 0; at < count; at += 512) {
		for (int i = 0; i < 512; i++)
			words[i] = check_word(seed, at + i);
		CHECK_EQUAL("write", write(fd, words, sizeof(words)), sizeof(words));
	}
}

/* Reads some entries and marks their numbers. 0 at the end. */
static long read_directory(int fd, unsigned char *seen, size_t size)
{
	char buffer[4096];
	long length = syscall(SYS_getdents64, fd, buffer, size);

	CHECK(length >= 0, "getdents64: %s", strerror(errno));
	for (long at = 0; at < length;) {
		struct dirent64 *entry = (struct dirent64 *)(buffer + at);

		if (!strncmp(entry->d_name, "entry", 5)) {
			int number = atoi(entry->d_name + 5);

			CHECK(number >= 0 && number < ENTRIES, "directory: entry %s", entry->d_name);
			seen[number]++;
		}
		at += entry->d_reclen;
	}
	return length;
}

struct expected {
	int fd, flags, cloexec;
};

int main(int argc, char **argv)
{
	unsigned char seen[ENTRIES] = { 0 };
	struct expected open_fds[64];
	char record[RECORD + 1], text[PATH_MAX + 64];
	const char *local;
	unsigned int count = 0;
	unsigned long turns = 0, words = 0;
	off_t local_size = 0;
	uint64_t word;
	char *local_text = NULL;
	long length;

	check_begin(argc, argv, "f1_files");
	snprintf(base, sizeof(base), "%s.f1", check.log);
	local = check_option("local", "/etc/passwd");
	if (mkdir(base, 0755))
		CHECK(errno == EEXIST, "%s: %s", base, strerror(errno));
	for (int i = 0; i < ENTRIES; i++) {
		snprintf(text, sizeof(text), "/entry%d", i);
		close(open_at(200, path_of(text), O_WRONLY | O_CREAT | O_CLOEXEC));
	}
	/* 20: read, 21 shares its position, 22 has one of its own, HIGH shares too. */
	open_at(20, path_of("/data"), O_RDWR | O_CREAT | O_TRUNC);
	write_words(20, 1, 1 << 16);
	CHECK_CALL("fsync", fsync(20));
	close(20);
	open_at(20, path_of("/data"), O_RDONLY | O_NOATIME);
	CHECK_CALL("dup2", dup2(20, 21));
	open_at(22, path_of("/data"), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	CHECK_CALL("dup3", dup3(20, HIGH, O_CLOEXEC));
	CHECK_EQUAL("lseek", lseek(22, 12344, SEEK_SET), 12344);
	/* 30: append; 31: the same file for writing at positions; 32: a file written on and on and read back. */
	open_at(30, path_of("/append"), O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC);
	open_at(31, path_of("/sync"), O_WRONLY | O_CREAT | O_TRUNC | O_DSYNC);
	open_at(32, path_of("/stream"), O_RDWR | O_CREAT | O_TRUNC);
	CHECK_EQUAL("lseek behind the end", lseek(31, 1 << 20, SEEK_SET), 1 << 20);
	/* 40: the directory, read half-way; 41: the same, from its beginning. */
	open_at(40, base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	open_at(41, base, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 4; i++)
		CHECK(read_directory(40, seen, 1024) > 0, "the directory ended early");
	if (*local) {
		open_at(50, local, O_RDONLY);
		local_size = lseek(50, 0, SEEK_END);
		CHECK(local_size > 100, "%s is too short", local);
		local_text = malloc(local_size);
		CHECK_EQUAL("pread", pread(50, local_text, local_size, 0), local_size);
		CHECK_EQUAL("lseek", lseek(50, 50, SEEK_SET), 50);
	}
	for (int fd = 3; fd < 1024 && count < 64; fd++) {
		int flags = fcntl(fd, F_GETFL);

		if (flags >= 0 && fd != check.ready_fd)
			open_fds[count++] = (struct expected){ fd, flags, fcntl(fd, F_GETFD) };
	}
	check_ready();

	do {
		unsigned int open_now = 0;

		for (unsigned int i = 0; i < count; i++) {
			CHECK_EQUAL("F_GETFL", fcntl(open_fds[i].fd, F_GETFL), open_fds[i].flags);
			CHECK_EQUAL("F_GETFD", fcntl(open_fds[i].fd, F_GETFD), open_fds[i].cloexec);
		}
		for (int fd = 3; fd < 1024; fd++)
			open_now += fcntl(fd, F_GETFD) >= 0;
		CHECK_EQUAL("open descriptors", open_now, count);
		/* A word through each of the three descriptors, in turn: one position for all. */
		int fd = turns % 3 == 0 ? 20 : turns % 3 == 1 ? 21 : HIGH;

		CHECK_EQUAL("position", lseek(fd, 0, SEEK_CUR), words * 8);
		CHECK_EQUAL("read", read(fd, &word, 8), 8);
		CHECK(word == check_word(1, words), "word %lu of the file: expected %#llx, got %#llx", words,
		      (unsigned long long)check_word(1, words), (unsigned long long)word);
		if (++words == 1 << 16) {
			words = 0;
			lseek(21, 0, SEEK_SET);
		}
		CHECK_EQUAL("position of another open file", lseek(22, 0, SEEK_CUR), 12344);
		CHECK_EQUAL("pread", pread(22, &word, 8, 12344), 8);
		CHECK(word == check_word(1, 12344 / 8), "pread differs");
		/* Each record exactly once. */
		snprintf(record, sizeof(record), "record %055lu\n", turns);
		CHECK_EQUAL("append", write(30, record, strlen(record)), strlen(record));
		CHECK_EQUAL("write", write(32, record, strlen(record)), strlen(record));
		CHECK_EQUAL("position of the stream", lseek(32, 0, SEEK_CUR), (turns + 1) * 63);
		CHECK_EQUAL("position behind the end", lseek(31, 0, SEEK_CUR), 1 << 20);
		if (local_text) {
			char piece[50];

			CHECK_EQUAL("position of the local file", lseek(50, 0, SEEK_CUR), 50);
			CHECK_EQUAL("read of the local file", read(50, piece, 50), 50);
			CHECK(!memcmp(piece, local_text + 50, 50), "the local file differs");
			lseek(50, 50, SEEK_SET);
		}
		turns++;
	} while (!check_turn());

	while ((length = read_directory(40, seen, 1024)) > 0)
		;
	for (int i = 0; i < ENTRIES; i++)
		CHECK(seen[i] == 1, "directory entry %d: expected once, got %d times", i, seen[i]);
	memset(seen, 0, sizeof(seen));
	while (read_directory(41, seen, 4096) > 0)
		;
	for (int i = 0; i < ENTRIES; i++)
		CHECK(seen[i] == 1, "directory entry %d from the beginning: got %d times", i, seen[i]);
	CHECK_EQUAL("write behind the end", write(31, "x", 1), 1);
	CHECK(write(20, "x", 1) == -1 && errno == EBADF, "a read-only descriptor was written");
	CHECK(read(30, record, 1) == -1 && errno == EBADF, "a write-only descriptor was read");
	open_at(33, path_of("/append"), O_RDONLY);
	for (int pass = 0; pass < 2; pass++) {
		int fd = pass ? 32 : 33;

		lseek(fd, 0, SEEK_SET);
		for (unsigned long i = 0; i < turns; i++) {
			char want[RECORD + 1];

			snprintf(want, sizeof(want), "record %055lu\n", i);
			CHECK_EQUAL("read back", read(fd, record, 63), 63);
			CHECK(!memcmp(record, want, 63), "%s: expected %.62s, got %.62s", pass ? "stream" : "append", want,
			      record);
		}
		CHECK_EQUAL("end of the file", read(fd, record, 63), 0);
	}
	check_done(turns);
}
