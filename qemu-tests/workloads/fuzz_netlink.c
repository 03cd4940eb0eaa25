/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sends count=<n> (default 100000) requests to the module's generic netlink family: most of them well-formed, with
 * attributes of the right types and plausible values, many of them altered, some plain noise. seed=<n> repeats a run.
 *
 * Requests name processes that this program makes for the purpose, itself, and numbers that nobody has. Record streams
 * are taken from the module's own answers and altered. In the end every session is gone, and the processes that were
 * not killed on request still run. A request that is not answered within hang=<seconds> (default 30) is a failure.
 *
 * LOG.records gets the record streams that were seen.
 */
#include "netlink.h"
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { VICTIMS = 4, LOOSE = 2, CORPUS = 64, SOCKETS = 6 };

/* What each command takes, as bits of attributes. */
static const uint32_t takes[COMMANDS + 1] = {
	[SURVEY] = 1 << PID,
	[SESSION_NEW] = 1 << ROLE | 1 << MIGRATION,
	[SESSION_END] = 1 << SESSION,
	[FREEZE] = 1 << SESSION | 1 << PID | 1 << DEADLINE,
	[THAW] = 1 << SESSION,
	[CAPTURE] = 1 << SESSION | 1 << PID,
	[SEND] = 1 << SESSION | 1 << PID | 1 << SOCKET | 1 << RANGES | 1 << LAST,
	[RECEIVE] = 1 << SESSION | 1 << PID | 1 << SOCKET,
	[RESTORE] = 1 << SESSION | 1 << PID | 1 << RECORDS,
	[COMMIT] = 1 << SESSION,
	[KILL] = 1 << SESSION,
	[HARVEST] = 1 << SESSION | 1 << PID | 1 << KIND,
	[VESSEL] = 1 << SESSION | 1 << PID | 1 << STUB_START | 1 << STUB_END,
	[ADOPT] = 1 << SESSION,
};

static pid_t victims[VICTIMS];
static char *victim_memory;
static int sockets[SOCKETS], others[SOCKETS];
static uint32_t sessions[16];
static unsigned int known;
static struct {
	unsigned int length;
	uint8_t bytes[4096];
} corpus[CORPUS];
static unsigned int corpus_size;
static int corpus_fd;
static unsigned long answers[COMMANDS + 1], errors[COMMANDS + 1];
static _Atomic int64_t *since;

/*
 * The first LOOSE ones may become vessels, and vessels get whatever registers and pages the requests say. The others may
 * be frozen and described, and must not notice.
 */
static void victim(bool loose)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if (!loose)
			check_filled("memory of a victim", victim_memory, 65536, 9);
		check_sleep(20);
	}
}

static void look_after_victims(void)
{
	for (int i = 0; i < VICTIMS; i++) {
		int status;

		if (victims[i] && waitpid(victims[i], &status, WNOHANG) == victims[i]) {
			CHECK(i < LOOSE || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL),
			      "a victim ended with status %#x, and nobody may do more to it than kill it", status);
			victims[i] = 0;
		}
		if (!victims[i]) {
			victims[i] = CHECK_CALL("fork", fork());
			if (!victims[i]) {
				close(netlink);
				victim(i < LOOSE);
			}
		}
	}
}

static uint32_t some_pid(bool vessel)
{
	switch (dice(16)) {
	case 0:
		return 0;
	case 1:
		return 2; /* a thread of the kernel */
	case 2:
		return 0x7fffff00 + dice(512);
	case 3:
		return vessel ? 1u << 30 : (uint32_t)getpid(); /* a vessel dies with its session */
	default:
		return victims[dice(vessel ? LOOSE : VICTIMS)];
	}
}

static uint64_t some_address(void)
{
	uint64_t base[] = { 0, (uintptr_t)victim_memory, (uintptr_t)takes & ~4095ul, 0x7fffffffe000, UINT64_MAX - 8191,
			    0xffff888000000000 };

	return base[dice(6)] + dice(64) * 4096 + (dice(10) ? 0 : dice(4096));
}

static void put_some(uint16_t type)
{
	uint8_t bytes[4096 + 64];
	uint32_t number = dice(4) ? dice(40) : dice(UINT32_MAX);
	uint64_t large = dice(3) ? some_address() : dice(UINT64_MAX);

	switch (type) {
	case SESSION:
		number = known && dice(8) ? sessions[dice(known)] : dice(50);
		put(type, &number, 4);
		break;
	case MIGRATION:
		for (int i = 0; i < 16; i++)
			bytes[i] = dice(256);
		put(type, bytes, 16);
		break;
	case ROLE:
	case STATE:
	case OWNED:
		bytes[0] = dice(8) ? 1 + dice(2) : dice(256);
		put(type, bytes, 1);
		break;
	case PID:
	case TID:
		number = some_pid(message.generic.cmd == VESSEL);
		put(type, &number, 4);
		break;
	case DEADLINE:
		number = dice(60);
		put(type, &number, 4);
		break;
	case RECORDS: {
		unsigned int length = 0;

		if (corpus_size) {
			unsigned int which = dice(corpus_size);

			length = corpus[which].length;
			memcpy(bytes, corpus[which].bytes, length);
		}
		if (!length || !dice(8))
			for (length = 0; length < 8 + dice(200); length++)
				bytes[length] = dice(256);
		for (unsigned int i = dice(6); i && length; i--)
			bytes[dice(length)] = dice(3) ? dice(256) : dice(2) * 255;
		if (!dice(8))
			length = dice(length + 1);
		put(type, bytes, length);
		break;
	}
	case SOCKET:
		number = dice(4) ? (uint32_t)sockets[dice(SOCKETS)] : dice(2) ? dice(64) : UINT32_MAX - dice(3);
		put(type, &number, 4);
		break;
	case RANGES: {
		uint64_t ranges[32];
		unsigned int count = dice(16);

		for (unsigned int i = 0; i < count; i++) {
			ranges[2 * i] = some_address();
			ranges[2 * i + 1] = dice(8) ? ranges[2 * i] + dice(20) * 4096 : some_address();
		}
		put(type, ranges, count * 16 - (dice(16) || !count ? 0 : dice(16)));
		break;
	}
	case LAST:
		put(type, "", 0);
		break;
	case RELEASE:
	case MODULE_VERSION:
		put(type, "text", 5 - dice(2));
		break;
	case PAGES:
	case ZERO_PAGES:
	case BYTES:
	case STUB_START:
	case STUB_END:
		put(type, &large, 8);
		break;
	default:
		put(type, &number, 4);
	}
}

/* Takes what the module answers: sessions and records to speak of later. */
static void take(int command, const uint8_t *bytes, int length)
{
	const struct nlmsghdr *header = (const void *)bytes;

	for (; NLMSG_OK(header, (unsigned int)length); header = NLMSG_NEXT(header, length)) {
		const void *content;
		size_t size;

		if (header->nlmsg_type == NLMSG_ERROR) {
			if (command <= COMMANDS)
				errors[command] += ((const struct nlmsgerr *)NLMSG_DATA(header))->error != 0;
			continue;
		}
		if (header->nlmsg_type != family)
			continue;
		if (command <= COMMANDS)
			answers[command]++;
		content = attribute(header, SESSION, &size);
		if (content && size == 4) {
			memcpy(&sessions[known < 16 ? known : dice(16)], content, 4);
			known += known < 16;
		}
		content = attribute(header, RECORDS, &size);
		if (content) {
			unsigned int which = corpus_size < CORPUS ? corpus_size++ : dice(CORPUS);

			corpus[which].length = size < 4096 ? size : 4096;
			memcpy(corpus[which].bytes, content, corpus[which].length);
			if (corpus_size < CORPUS && write(corpus_fd, content, size) < 0)
				check_fail("records: %s", strerror(errno));
		}
	}
}

static void drain(int command)
{
	static uint8_t bytes[1 << 18];
	ssize_t length;

	while ((length = recv(netlink, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		take(command, bytes, length);
}

static void submit(int command)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	atomic_store(since, check_clock(CLOCK_MONOTONIC));
	sendto(netlink, &message, message.header.nlmsg_len < sizeof(message) ? message.header.nlmsg_len : sizeof(message),
	       MSG_DONTWAIT, (void *)&kernel, sizeof(kernel));
	atomic_store(since, 0);
	drain(command);
}

/* Ends every session that is left, its own and those that were committed. */
static void clean(void)
{
	static const int commands[] = { ADOPT, KILL, SESSION_END };

	known = 0;
	begin(family, STATUS, NLM_F_DUMP);
	submit(0);
	for (unsigned int i = 0; i < known; i++)
		for (int j = 0; j < 3; j++) {
			begin(family, commands[j], NLM_F_ACK);
			put(SESSION, &sessions[i], 4);
			submit(0);
		}
	known = 0;
}

static void reopen(void)
{
	if (netlink >= 0)
		close(netlink);
	open_netlink();
	clean();
}

/* Stream sockets that never block for long, connected to something that is never read and says little. */
static void make_sockets(void)
{
	struct timeval brief = { 0, 2000 };

	for (int i = 0; i < SOCKETS; i++) {
		if (i < 4) {
			struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
			socklen_t length = sizeof(address);
			int listening = CHECK_CALL("socket", socket(AF_INET, SOCK_STREAM, 0));

			CHECK_CALL("bind", bind(listening, (void *)&address, length));
			CHECK_CALL("listen", listen(listening, 1));
			getsockname(listening, (void *)&address, &length);
			sockets[i] = CHECK_CALL("socket", socket(AF_INET, SOCK_STREAM, 0));
			CHECK_CALL("connect", connect(sockets[i], (void *)&address, length));
			others[i] = CHECK_CALL("accept", accept(listening, NULL, NULL));
			close(listening);
			setsockopt(sockets[i], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof(brief));
			setsockopt(sockets[i], SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof(brief));
			fcntl(others[i], F_SETFL, O_NONBLOCK);
		} else {
			sockets[i] = i == 4 ? CHECK_CALL("socket", socket(AF_INET, SOCK_DGRAM, 0)) : netlink;
			others[i] = -1;
		}
	}
}

/* Page frames, right ones and others, for whom it may concern. */
static void feed_sockets(void)
{
	static uint8_t page[4096 * 4 + 16];
	int i = dice(4);
	struct {
		uint32_t magic, pages;
		uint64_t address;
	} header = { dice(8) ? 0x676d5047 : dice(UINT32_MAX), dice(8) ? dice(4) : dice(UINT32_MAX), some_address() };

	memcpy(page, &header, 16);
	if (send(others[i], page, 16 + (header.pages < 4 ? header.pages * 4096 : dice(4096)), MSG_DONTWAIT) < 0 &&
	    errno != EAGAIN)
		check_fail("feeding a socket: %s", strerror(errno));
	while (recv(others[i], page, sizeof(page), MSG_DONTWAIT) > 0)
		;
}

static void one(void)
{
	int command = dice(40) ? 1 + dice(COMMANDS) : dice(256);
	uint32_t wanted = command <= COMMANDS ? takes[command] : 0;
	uint16_t flags = dice(4) ? NLM_F_ACK : 0;

	if (command == SURVEY || command == CAPTURE || command == STATUS)
		flags |= dice(16) ? NLM_F_DUMP : 0;
	begin(family, command, flags);
	for (int type = 1; type <= ATTRIBUTES; type++)
		if (wanted >> type & 1 ? dice(20) != 0 : !dice(60))
			put_some(type);
	switch (dice(20)) {
	case 0: { /* an attribute of any type and length */
		uint8_t bytes[64];

		for (int i = 0; i < 64; i++)
			bytes[i] = dice(256);
		put(dice(64), bytes, dice(64));
		break;
	}
	case 1: /* bytes altered behind the header */
		for (int i = 0; i < 4 && message.header.nlmsg_len > 20 && command != VESSEL; i++)
			((uint8_t *)&message)[20 + dice(message.header.nlmsg_len - 20)] = dice(256);
		break;
	case 2: /* cut short */
		message.header.nlmsg_len = 16 + dice(message.header.nlmsg_len - 15);
		break;
	case 3: /* noise */
		for (unsigned int i = 0; i < 200; i++)
			message.space[i] = dice(256);
		message.header.nlmsg_len = 20 + dice(200);
		break;
	case 4:
		message.header.nlmsg_flags = dice(65536) | NLM_F_REQUEST;
		message.generic.version = dice(256);
		break;
	}
	submit(command);
}

/* Tells when a request is not answered for long; it is a process of its own, as this one may hang in the kernel. */
static void watch(int64_t limit)
{
	pid_t watched = getpid();

	if (CHECK_CALL("fork", fork()))
		return;
	close(netlink); /* a session lives as long as anyone holds its socket */
	while (!kill(watched, 0)) {
		int64_t begun = atomic_load(since);

		if (begun && check_clock(CLOCK_MONOTONIC) - begun > limit) {
			check_log("FAIL fuzz_netlink a request is not answered");
			kill(watched, SIGKILL);
			_exit(1);
		}
		check_sleep(200);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	char path[PATH_MAX + 16];
	unsigned long count, sent;

	check_begin(argc, argv, "fuzz_netlink");
	count = check_number("count", 100000);
	state = check_number("seed", 1) * 2654435761u + 1;
	victim_memory = aligned_alloc(4096, 65536);
	check_fill(victim_memory, 65536, 9);
	since = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(path, sizeof(path), "%s.records", check.log);
	corpus_fd = CHECK_CALL("open", open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	find_family();
	look_after_victims();
	make_sockets();
	check_ready();
	watch(check_number("hang", 30) * 1000000000);
	for (sent = 0; sent < count; sent++) {
		if (sent % 100 == 0) {
			reopen();
			sockets[5] = netlink;
			look_after_victims();
			check_beat();
		}
		if (!dice(6))
			feed_sockets();
		one();
	}
	reopen();
	begin(family, STATUS, NLM_F_DUMP);
	submit(0);
	CHECK_EQUAL("sessions left", known, 0);
	look_after_victims();
	check_sleep(100);
	for (int i = 0; i < VICTIMS; i++) {
		char name[64], line[64] = "";
		int fd;

		snprintf(name, sizeof(name), "/proc/%d/wchan", victims[i]);
		fd = open(name, O_RDONLY);
		if (fd >= 0 && read(fd, line, sizeof(line) - 1) < 0)
			line[0] = 0;
		CHECK(!strstr(line, "pmig"), "a victim is still parked: %s", line);
		close(fd);
		kill(victims[i], SIGKILL);
		waitpid(victims[i], NULL, 0);
	}
	for (int i = 1; i <= COMMANDS; i++)
		check_log("NOTE command %d: %lu answers, %lu errors", i, answers[i], errors[i]);
	check_done(sent);
}
