/* SPDX-License-Identifier: GPL-2.0 */
/*
 * F4: pipes with both ends inside. Full ones, a large one, one through which numbers flow all the time, one with several
 * descriptors. one_end=1 adds pipes one end of which is closed, packets=1 one in packet mode, fifo=1 a named one,
 * big=0 leaves the large one out.
 */
#include "check.h"
#include <poll.h>
#include <sys/ioctl.h>

static int full[2], big[2], flow[2], shared[2], no_writer[2] = { -1, -1 }, no_reader[2] = { -1, -1 };
static int packets[2] = { -1, -1 }, fifo[2] = { -1, -1 };
static atomic_bool closing;
static uint64_t sent, received;

static void make(int ends[2], int flags)
{
	CHECK_CALL("pipe2", pipe2(ends, flags));
}

static size_t fill(int fd, uint64_t seed, size_t most)
{
	uint64_t words[512];
	size_t done = 0;

	while (done < most) {
		size_t length = sizeof(words) < most - done ? sizeof(words) : most - done;
		ssize_t written;

		for (size_t i = 0; i < length / 8; i++)
			words[i] = check_word(seed, done / 8 + i);
		written = write(fd, words, length);
		if (written < 0) {
			CHECK(errno == EAGAIN, "write: %s", strerror(errno));
			break;
		}
		CHECK_EQUAL("bytes written, modulo 8", written % 8, 0);
		done += written;
	}
	return done;
}

static void drain(const char *what, int fd, uint64_t seed, size_t length)
{
	size_t done = 0;
	uint64_t word;

	for (; done < length; done += 8) {
		CHECK_EQUAL(what, read(fd, &word, 8), 8);
		CHECK(word == check_word(seed, done / 8), "%s at %zu: expected %#llx, got %#llx", what, done,
		      (unsigned long long)check_word(seed, done / 8), (unsigned long long)word);
	}
}

static size_t inside(int fd)
{
	int bytes = -1;

	CHECK_CALL("FIONREAD", ioctl(fd, FIONREAD, &bytes));
	return bytes;
}

static void *sender(void *unused)
{
	(void)unused;
	while (!closing) {
		uint64_t words[64];
		int count = 1 + sent % 64;

		for (int i = 0; i < count; i++)
			words[i] = check_word(9, sent + i);
		CHECK_EQUAL("write to the flow", write(flow[1], words, count * 8), count * 8);
		sent += count;
		if (sent % 7 == 0)
			check_sleep(1);
	}
	close(flow[1]);
	return NULL;
}

static void *receiver(void *unused)
{
	uint64_t word;
	ssize_t length;

	(void)unused;
	while ((length = read(flow[0], &word, 8)) == 8) {
		CHECK(word == check_word(9, received), "number %llu of the flow: expected %#llx, got %#llx",
		      (unsigned long long)received, (unsigned long long)check_word(9, received), (unsigned long long)word);
		received++;
	}
	CHECK_EQUAL("end of the flow", length, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	size_t in_full, in_big = 0;
	const size_t in_shared = 4000;
	unsigned long turns = 0;
	pthread_t id[2];
	char path[PATH_MAX + 8], bytes[8192];
	int copy;
	bool with_big;

	check_begin(argc, argv, "f4_pipes");
	with_big = check_number("big", 1);
	make(full, O_NONBLOCK | O_CLOEXEC);
	in_full = fill(full[1], 1, SIZE_MAX / 2);
	CHECK(in_full >= 65536 - 4096, "a full pipe holds only %zu bytes", in_full);
	if (with_big) {
		make(big, O_CLOEXEC);
		CHECK_EQUAL("F_SETPIPE_SZ", CHECK_CALL("F_SETPIPE_SZ", fcntl(big[1], F_SETPIPE_SZ, 1 << 20)), 1 << 20);
		in_big = fill(big[1], 2, 700000);
	}
	make(flow, 0);
	make(shared, 0);
	fill(shared[1], 3, in_shared);
	copy = CHECK_CALL("fcntl", fcntl(shared[0], F_DUPFD_CLOEXEC, 100));
	CHECK_CALL("dup2", dup2(shared[1], 120));
	if (check_number("one_end", 0)) {
		make(no_writer, 0);
		fill(no_writer[1], 4, 800);
		close(no_writer[1]);
		make(no_reader, 0);
		close(no_reader[0]);
	}
	if (check_number("packets", 0)) {
		make(packets, O_DIRECT);
		for (int i = 1; i <= 10; i++)
			CHECK_EQUAL("packet", write(packets[1], memset(bytes, i, sizeof(bytes)), i * 100), i * 100);
	}
	if (check_number("fifo", 0)) {
		snprintf(path, sizeof(path), "%s.fifo", check.log);
		unlink(path);
		CHECK_CALL("mkfifo", mkfifo(path, 0644));
		fifo[0] = CHECK_CALL("open", open(path, O_RDONLY | O_NONBLOCK));
		fifo[1] = CHECK_CALL("open", open(path, O_WRONLY));
		fill(fifo[1], 6, 1600);
	}
	CHECK_EQUAL("pthread_create", pthread_create(&id[0], NULL, sender, NULL), 0);
	CHECK_EQUAL("pthread_create", pthread_create(&id[1], NULL, receiver, NULL), 0);
	check_ready();

	do {
		struct pollfd entry = { .fd = full[1], .events = POLLOUT };

		CHECK_EQUAL("bytes in the full pipe", inside(full[0]), in_full);
		CHECK_EQUAL("poll of the full pipe", poll(&entry, 1, 0), 0);
		CHECK(write(full[1], "12345678", 8) == -1 && errno == EAGAIN, "the full pipe took more");
		CHECK_EQUAL("flags of the full pipe", fcntl(full[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		if (with_big) {
			CHECK_EQUAL("bytes in the large pipe", inside(big[0]), in_big);
			CHECK_EQUAL("F_GETPIPE_SZ", fcntl(big[0], F_GETPIPE_SZ), 1 << 20);
			CHECK_EQUAL("flags of the large pipe", fcntl(big[0], F_GETFL) & O_NONBLOCK, 0);
		}
		CHECK_EQUAL("bytes in the shared pipe", inside(copy), in_shared);
		CHECK_EQUAL("FD_CLOEXEC", fcntl(copy, F_GETFD), FD_CLOEXEC);
		CHECK_EQUAL("FD_CLOEXEC", fcntl(120, F_GETFD), 0);
		turns++;
	} while (!check_turn());

	drain("full pipe", full[0], 1, in_full);
	CHECK(read(full[0], bytes, 1) == -1 && errno == EAGAIN, "the full pipe had more bytes");
	CHECK(fill(full[1], 8, SIZE_MAX / 2) == in_full, "the full pipe does not hold what it did");
	if (with_big) {
		drain("large pipe", big[0], 2, in_big);
		CHECK_EQUAL("large pipe after it was drained", inside(big[0]), 0);
	}
	/* Written through one descriptor, read through another. */
	drain("shared pipe", shared[0], 3, in_shared / 16 * 8);
	CHECK_EQUAL("write", write(120, "12345678", 8), 8);
	CHECK_EQUAL("bytes in the shared pipe", inside(copy), in_shared - in_shared / 16 * 8 + 8);
	/* No end of file while a descriptor for writing is left, then one. */
	close(shared[1]);
	CHECK_EQUAL("rest of the shared pipe", read(copy, bytes, sizeof(bytes)), in_shared - in_shared / 16 * 8 + 8);
	close(120);
	CHECK_EQUAL("end of the shared pipe", read(copy, bytes, sizeof(bytes)), 0);
	if (no_writer[0] >= 0) {
		drain("pipe without a writer", no_writer[0], 4, 800);
		CHECK_EQUAL("end of the pipe without a writer", read(no_writer[0], bytes, 1), 0);
	}
	if (no_reader[1] >= 0) {
		struct pollfd entry = { .fd = no_reader[1] };

		CHECK_EQUAL("poll of the pipe without a reader", poll(&entry, 1, 0), 1);
		CHECK_EQUAL("revents", entry.revents, POLLERR);
	}
	for (int i = 1; packets[0] >= 0 && i <= 10; i++) {
		CHECK_EQUAL("length of a packet", read(packets[0], bytes, sizeof(bytes)), i * 100);
		CHECK_EQUAL("content of a packet", bytes[i * 100 - 1], i);
	}
	if (fifo[0] >= 0) {
		drain("named pipe", fifo[0], 6, 1600);
		unlink(path);
	}
	closing = true;
	for (int i = 0; i < 2; i++)
		pthread_join(id[i], NULL);
	CHECK_EQUAL("numbers received", received, sent);
	check_done(received);
}
