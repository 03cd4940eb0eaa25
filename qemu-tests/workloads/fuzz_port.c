/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sends count=<n> (default 100000) messages to the agent at host=<address> port=<n> (default 127.0.0.1, 7788): messages
 * with right headers and checksums whose bodies are right, altered or noise, in the order of a migration and in others;
 * wrong headers; connections that end anywhere. records=FILE names record streams to send and alter.
 *
 * The agent must answer an honest greeting all the time, and at the end; it is asked every 1000 messages.
 */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

enum { MAGIC = 0x67696d70, WELCOME = 2, MOST = 1 << 16 };
enum { INSPECT = 3 };

struct header {
	uint32_t magic;
	uint16_t version, kind;
	uint32_t length, checksum;
};

static uint64_t state;
static struct sockaddr_in agent;
static uint8_t facts[8192], records[1 << 20];
static size_t facts_length, records_length;
static uint32_t table[256];
static unsigned long connections, refused, replies[64];

static uint64_t dice(uint64_t sides)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state * 0x2545f4914f6cdd1du >> 11) % sides;
}

static uint32_t crc32c(const uint8_t *bytes, size_t length)
{
	uint32_t crc = ~0u;

	while (length--)
		crc = crc >> 8 ^ table[(crc ^ *bytes++) & 255];
	return ~crc;
}

static uint8_t *varint(uint8_t *at, uint64_t value)
{
	for (; value > 127; value >>= 7)
		*at++ = value | 128;
	*at++ = value;
	return at;
}

/* The body of a greeting; facts as the agent itself gave them, if it did. */
static size_t greeting(uint8_t *body, int purpose)
{
	uint8_t *at = body;

	at = varint(at, 4);
	memcpy(at, "fuzz", 4);
	at = varint(at + 4, purpose);
	if (purpose != INSPECT)
		for (int i = 0; i < 16; i++)
			*at++ = dice(4) ? (uint64_t)i : dice(256);
	at = varint(at, dice(UINT64_MAX));
	at = varint(at, dice(65536));
	at = varint(at, facts_length);
	memcpy(at, facts, facts_length);
	return at + facts_length - body;
}

/* A body that fits the kind, more or less. */
static size_t some_body(int kind, uint8_t *body)
{
	uint8_t *at = body;
	size_t length = 0;

	switch (kind) {
	case 1:
		return greeting(body, dice(5));
	case 4:
	case 5:
	case 14:
	case 15:
		return 0;
	case 7:
		at = varint(at, dice(4) ? dice(70000) : dice(UINT32_MAX));
		return varint(at, dice(4) ? records_length : dice(UINT64_MAX)) - body;
	case 8:
		length = 1 + dice(records_length < MOST / 2 ? records_length + 1 : MOST / 2);
		memcpy(body, records, length);
		return length;
	case 12:
		return varint(at, dice(4) ? records_length : dice(UINT64_MAX)) - body;
	case 13:
		at = varint(at, dice(100000));
		return varint(at, dice(UINT32_MAX)) - body;
	default:
		for (length = 0; length < dice(100); length++)
			body[length] = dice(256);
		return length;
	}
}

static int dial(void)
{
	struct timeval limit = { 5, 0 };
	int fd = CHECK_CALL("socket", socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), one = 1;

	for (int attempt = 0; connect(fd, (void *)&agent, sizeof(agent)); attempt++) {
		CHECK(attempt < 200, "the agent cannot be reached: %s", strerror(errno));
		check_sleep(50);
		refused++;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	connections++;
	return fd;
}

static bool submit(int fd, int kind, const uint8_t *body, size_t length, bool honest)
{
	uint8_t bytes[MOST + sizeof(struct header)];
	struct header header = { MAGIC, 1, kind, length, crc32c(body, length) };
	size_t total = sizeof(header) + length;

	if (!honest)
		switch (dice(30)) {
		case 0:
			header.magic ^= 1u << dice(32);
			break;
		case 1:
			header.version = dice(65536);
			break;
		case 2:
			header.length = dice(2) ? dice(UINT32_MAX) : 16u << 20;
			break;
		case 3:
			header.checksum ^= 1u << dice(32);
			break;
		}
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), body, length);
	if (!honest && !dice(30))
		total = dice(total + 1);
	return send(fd, bytes, total, MSG_NOSIGNAL) == (ssize_t)total;
}

static bool receive(int fd, void *bytes, size_t length)
{
	return recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length;
}

/* What an agent answers to an honest greeting; learns its facts. */
static void greet(void)
{
	static uint8_t body[1 << 20];
	struct header header;
	int fd = dial();

	CHECK(submit(fd, 1, body, greeting(body, INSPECT), true), "the agent does not take a greeting: %s", strerror(errno));
	do
		CHECK(receive(fd, &header, sizeof(header)), "the agent does not answer a greeting: %s", strerror(errno));
	while (header.kind == 4);
	CHECK(header.magic == MAGIC && header.length <= sizeof(body), "the agent answers with garbage");
	CHECK(receive(fd, body, header.length), "the answer is cut short");
	CHECK_EQUAL("checksum of the answer", header.checksum, crc32c(body, header.length));
	if (header.kind < 64)
		replies[header.kind]++;
	if (header.kind == WELCOME && !facts_length) {
		/* Agent, journal, and the facts. */
		const uint8_t *at = body + 1 + body[0];
		size_t length = 0;

		while (*at++ & 128)
			;
		for (int shift = 0;; shift += 7) {
			length |= (size_t)(*at & 127) << shift;
			if (!(*at++ & 128))
				break;
		}
		if (length <= sizeof(facts) && at + length <= body + header.length) {
			memcpy(facts, at, length);
			facts_length = length;
		}
	}
	close(fd);
}

/* One connection: a greeting, then some messages. Gives how many messages it has sent. */
static unsigned int converse(void)
{
	static const uint8_t order[] = { 5, 7, 8, 8, 10, 12, 8, 13, 15, 16, 17 };
	static uint8_t body[MOST];
	unsigned int count = 0, at = 0, most = 1 + dice(30);
	bool orderly = dice(2);
	int fd = dial();

	if (dice(16) && submit(fd, 1, body, greeting(body, dice(4)), true))
		count++;
	for (; count < most; count++) {
		int kind = orderly ? order[at++ % sizeof(order)] : dice(16) ? 1 + (int)dice(20) : (int)dice(65536);
		size_t length = some_body(kind, body);

		for (unsigned int i = dice(3) ? 0 : dice(5); i && length; i--)
			body[dice(length)] ^= 1u << dice(8);
		if (!dice(12))
			length = dice(length + 1);
		if (!submit(fd, kind, body, length, false))
			break;
		if (!dice(4)) {
			struct pollfd entry = { .fd = fd, .events = POLLIN };

			/* Once in a while the agent gets the time to answer. */
			if (poll(&entry, 1, 2) > 0 && recv(fd, body, sizeof(body), MSG_DONTWAIT) <= 0)
				break;
		}
	}
	if (!dice(8)) {
		struct linger now = { 1, 0 };

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)); /* a reset instead of an end */
	}
	close(fd);
	return count + 1;
}

int main(int argc, char **argv)
{
	const char *file;
	unsigned long count, sent = 0, next = 0;

	check_begin(argc, argv, "fuzz_port");
	count = check_number("count", 100000);
	state = check_number("seed", 1) * 2654435761u + 1;
	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
	}
	agent.sin_family = AF_INET;
	agent.sin_port = htons(check_number("port", 7788));
	CHECK(inet_pton(AF_INET, check_option("host", "127.0.0.1"), &agent.sin_addr) == 1, "no address");
	file = check_option("records", NULL);
	if (file) {
		int fd = CHECK_CALL("open", open(file, O_RDONLY | O_CLOEXEC));

		records_length = CHECK_CALL("read", read(fd, records, sizeof(records)));
		close(fd);
	}
	greet();
	check_ready();
	while (sent < count) {
		if (sent >= next) {
			next += 1000;
			greet();
			check_beat();
		}
		sent += converse();
	}
	/* Connections that were cut take their time to be noticed. */
	check_sleep(1000);
	greet();
	check_log("NOTE %lu connections, %lu refused, %lu welcomes, facts of %zu bytes, records of %zu bytes", connections, refused,
		  replies[WELCOME], facts_length, records_length);
	check_done(sent);
}
