/*
 * The limit of a bulk move: a plain or TLS 1.3 TCP stream read into fresh memory.
 *
 *   bench_stream recv PORT MB [tls]        on the node; serves one connection after the other
 *   bench_stream send ADDR PORT MB [tls]   for each line on standard input one connection, and
 *                                          a line: microseconds until its last byte is acknowledged
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <openssl/ssl.h>

#include "bench.h"

#define CHUNK (1u << 20)

static const unsigned char key[32] = "a key to measure by, no secret";

static int session(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *idlen,
		   SSL_SESSION **ret)
{
	static const unsigned char suite[] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256 */
	SSL_SESSION *s = SSL_SESSION_new();

	(void)md;
	SSL_SESSION_set1_master_key(s, key, sizeof(key));
	SSL_SESSION_set_cipher(s, SSL_CIPHER_find(ssl, suite));
	SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION);
	if (id) {
		*id = (const unsigned char *)"bench";
		*idlen = 5;
	}
	*ret = s;
	return 1;
}

static int use_cb(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *n, SSL_SESSION **s)
{
	return session(ssl, md, id, n, s);
}

static int find_cb(SSL *ssl, const unsigned char *id, size_t n, SSL_SESSION **s)
{
	(void)id;
	(void)n;
	return session(ssl, NULL, NULL, NULL, s);
}

static SSL *tls(int fd, int server)
{
	SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	SSL *ssl;

	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_psk_use_session_callback(ctx, use_cb);
	SSL_CTX_set_psk_find_session_callback(ctx, find_cb);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
		die("TLS handshake");
	return ssl;
}

static void serve(int port, size_t bytes, int use_tls)
{
	int l = listen_on(port), fd;

	while ((fd = accept(l, NULL, NULL)) >= 0) {
		char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
		SSL *ssl = use_tls ? tls(fd, 1) : NULL;
		size_t got = 0;
		ssize_t n = 1;

		while (got < bytes && n > 0) {
			size_t want = bytes - got < CHUNK ? bytes - got : CHUNK;

			n = ssl ? SSL_read(ssl, p + got, (int)want) : read(fd, p + got, want);
			got += n > 0 ? (size_t)n : 0;
		}
		if (got == bytes && (ssl ? SSL_write(ssl, "k", 1) : write(fd, "k", 1)) != 1)
			die("acknowledge");
		SSL_free(ssl);
		close(fd);
		munmap(p, bytes);
	}
}

static void feed(const struct sockaddr_in *to, const char *p, size_t bytes, int use_tls)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	SSL *ssl = NULL;
	uint64_t t0;
	char k;

	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (use_tls)
		ssl = tls(fd, 0);
	t0 = now_ns();
	for (size_t done = 0; done < bytes;) {
		size_t want = bytes - done < CHUNK ? bytes - done : CHUNK;
		ssize_t n = ssl ? SSL_write(ssl, p + done, (int)want) : write(fd, p + done, want);

		if (n <= 0)
			die("send");
		done += (size_t)n;
	}
	if ((ssl ? SSL_read(ssl, &k, 1) : read(fd, &k, 1)) != 1)
		die("no acknowledgement");
	printf("%.1f\n", (now_ns() - t0) / 1e3);
	fflush(stdout);
	SSL_free(ssl);
	close(fd);
}

static void serve_lines(const char *addr, int port, size_t bytes, int use_tls)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	char *p = malloc(bytes), c;

	if (!p || inet_pton(AF_INET, addr, &to.sin_addr) != 1)
		die("%s", addr);
	for (size_t i = 0; i < bytes; i += 8)
		*(uint64_t *)(p + i) = i * 0x9e3779b97f4a7c15u;
	while (read(0, &c, 1) == 1)
		if (c == '\n')
			feed(&to, p, bytes, use_tls);
}

int main(int argc, char **argv)
{
	if (argc >= 4 && !strcmp(argv[1], "recv"))
		serve(atoi(argv[2]), strtoul(argv[3], NULL, 10) << 20, argc > 4);
	else if (argc >= 5 && !strcmp(argv[1], "send"))
		serve_lines(argv[2], atoi(argv[3]), strtoul(argv[4], NULL, 10) << 20, argc > 5);
	else
		return 2;
	return 0;
}
