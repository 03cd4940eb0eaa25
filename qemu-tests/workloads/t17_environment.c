/* SPDX-License-Identifier: GPL-2.0 */
/*
 * T17 and what else belongs to a process: umask, working directory, root, names of the threads, executable, personality,
 * core dump filter, OOM score, parent death signal, dumpable. chroot=DIRECTORY changes the root first; LOG must lie in it.
 */
#include "check.h"
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { THREADS = 3 };

static atomic_bool closing;

static void read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	length = read(fd, text, size - 1);
	CHECK(length >= 0, "%s: %s", path, strerror(errno));
	text[length] = 0;
	text[strcspn(text, "\n")] = 0;
	close(fd);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %s", path, strerror(errno));
	close(fd);
}

static void check_text(const char *path, const char *expected)
{
	char text[PATH_MAX];

	read_text(path, text, sizeof(text));
	CHECK(!strcmp(text, expected), "%s: expected %s, got %s", path, expected, text);
}

static void check_link(const char *path, const char *expected)
{
	char text[PATH_MAX] = "";

	CHECK(readlink(path, text, sizeof(text) - 1) > 0, "%s: %s", path, strerror(errno));
	CHECK(!strcmp(text, expected), "%s: expected %s, got %s", path, expected, text);
}

static void *work(void *argument)
{
	char name[16], now[16];

	snprintf(name, sizeof(name), "thread %ld \xc3\xa4()", (long)(intptr_t)argument);
	CHECK_CALL("PR_SET_NAME", prctl(PR_SET_NAME, name));
	while (!closing) {
		CHECK_CALL("PR_GET_NAME", prctl(PR_GET_NAME, now));
		CHECK(!strcmp(now, name), "name: expected %s, got %s", name, now);
		check_sleep(20);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	char directory[PATH_MAX + 8], exe[PATH_MAX] = "", root[PATH_MAX] = "", text[64];
	unsigned long turns = 0;
	pthread_t id[THREADS];
	const char *jail;
	bool proc = true;
	int death;

	check_begin(argc, argv, "t17_environment");
	jail = check_option("chroot", NULL);
	snprintf(directory, sizeof(directory), "%s.d", check.log);
	if (mkdir(directory, 0700))
		CHECK(errno == EEXIST, "%s: %s", directory, strerror(errno));
	/* The filter and the score are set while there is a procfs. */
	write_text("/proc/self/coredump_filter", "0x15");
	write_text("/proc/self/oom_score_adj", "321");
	if (jail) {
		size_t length = strlen(jail);

		CHECK(!strncmp(check.log, jail, length), "the log does not lie in %s", jail);
		CHECK_CALL("chroot", chroot(jail));
		CHECK_CALL("chdir", chdir("/"));
		memmove(directory, directory + length, strlen(directory + length) + 1);
		check_paths(argv[1] + length);
		proc = !access("/proc/self/status", R_OK);
	}
	CHECK_CALL("chdir", chdir(directory));
	umask(0137);
	CHECK_CALL("personality", personality(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC));
	CHECK_CALL("PR_SET_NAME", prctl(PR_SET_NAME, "environment ) x"));
	/* The starter ends, which is the parent's death. */
	signal(SIGUSR1, SIG_IGN);
	CHECK_CALL("PR_SET_PDEATHSIG", prctl(PR_SET_PDEATHSIG, SIGUSR1));
	if (proc) {
		CHECK_CALL("readlink", readlink("/proc/self/exe", exe, sizeof(exe) - 1));
		CHECK_CALL("readlink", readlink("/proc/self/root", root, sizeof(root) - 1));
	}
	for (intptr_t i = 0; i < THREADS; i++)
		CHECK_EQUAL("pthread_create", pthread_create(&id[i], NULL, work, (void *)i), 0);
	CHECK_CALL("PR_SET_DUMPABLE", prctl(PR_SET_DUMPABLE, 0));
	check_ready();
	do {
		char now[PATH_MAX];
		struct stat st;
		mode_t mask = umask(0137);
		int fd;

		CHECK_EQUAL("umask", mask, 0137);
		CHECK(getcwd(now, sizeof(now)), "getcwd: %s", strerror(errno));
		CHECK(!strcmp(now, directory), "working directory: expected %s, got %s", directory, now);
		fd = CHECK_CALL("open", open("relative", O_WRONLY | O_CREAT | O_CLOEXEC, 0777));
		CHECK_CALL("fstat", fstat(fd, &st));
		CHECK_EQUAL("mode under the umask", st.st_mode & 0777, 0640);
		close(fd);
		CHECK_CALL("unlink", unlink("relative"));
		CHECK_EQUAL("personality", personality(0xffffffff), ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC);
		CHECK_CALL("PR_GET_NAME", prctl(PR_GET_NAME, text));
		CHECK(!strcmp(text, "environment ) x"), "name: got %s", text);
		CHECK_CALL("PR_GET_PDEATHSIG", prctl(PR_GET_PDEATHSIG, &death));
		CHECK_EQUAL("parent death signal", death, SIGUSR1);
		CHECK_EQUAL("dumpable", prctl(PR_GET_DUMPABLE), 0);
		if (proc) {
			check_text("/proc/self/coredump_filter", "00000015");
			check_text("/proc/self/oom_score_adj", "321");
			check_text("/proc/self/comm", "environment ) x");
			check_link("/proc/self/exe", exe);
			check_link("/proc/self/root", root);
			check_link("/proc/self/cwd", directory);
		}
		turns++;
	} while (!check_turn());
	closing = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(id[i], NULL);
	if (jail)
		CHECK(access(jail, F_OK), "%s is visible inside the new root", jail);
	rmdir(directory);
	check_done(turns);
}
