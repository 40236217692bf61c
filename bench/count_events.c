/*
 * Opens watches and counts what comes: Python could not read 200,000 messages a second without taking the
 * processor from the server that it measures.
 *
 *     count_events PORT CONNECTIONS STREAMS WARM_UP_S SECONDS <IDS
 *
 * IDS: a job's id (36 characters) a line; stream after stream watches the next one, and then the first again.
 * Prints "watching" when every watch has had its first message, and at the end one line of JSON.
 *
 * It knows as much of HTTP/2 and protobuf as these answers need: frames, the gRPC prefix, and where a progress
 * event keeps its time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8,
    END_STREAM = 1, END_HEADERS = 4, ACK = 1,
    RECEIVE_BYTES = 1 << 16,
    /* Lag in steps of 0.1 ms, up to 10 s. */
    BUCKETS = 100000,
};

struct stream {
    /* Of the message that a frame has cut: bytes still to come, or the prefix so far. */
    uint32_t rest;
    uint8_t prefix[5];
    uint8_t prefix_count;
    uint8_t has_message;
};

struct connection {
    int socket;
    struct stream *streams;
    uint8_t *received;
    size_t received_count;
};

static int stream_count;
static int is_counting;
static long ready_count, ended_count, events, other_messages, cut_messages;
static long lag[BUCKETS];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void send_all(int socket, const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        ssize_t sent = send(socket, at, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) fail("send");
        at += sent;
        count -= (size_t)sent;
    }
}

static size_t frame(uint8_t *out, int kind, int flags, uint32_t stream, const void *payload, size_t count) {
    uint8_t head[9] = {
        (uint8_t)(count >> 16), (uint8_t)(count >> 8), (uint8_t)count, (uint8_t)kind, (uint8_t)flags,
        (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(out, head, 9);
    if (count > 0) memcpy(out + 9, payload, count);
    return 9 + count;
}

static size_t literal(uint8_t *out, const char *text) {
    size_t count = strlen(text);
    out[0] = (uint8_t)count;
    memcpy(out + 1, text, count);
    return count + 1;
}

/* The headers of Watch, as literals that are not indexed: the same bytes for every stream. */
static size_t header_block(uint8_t *out, int port) {
    size_t at = 0;
    char authority[32];
    snprintf(authority, sizeof authority, "127.0.0.1:%d", port);
    out[at++] = 0x83; /* :method POST */
    out[at++] = 0x86; /* :scheme http */
    out[at++] = 0x04;
    at += literal(out + at, "/signalbox.v1.JobService/Watch");
    out[at++] = 0x01;
    at += literal(out + at, authority);
    out[at++] = 0x0f; /* content-type */
    out[at++] = 0x10;
    at += literal(out + at, "application/grpc");
    out[at++] = 0x00;
    at += literal(out + at, "te");
    at += literal(out + at, "trailers");
    return at;
}

static int connect_to(int port) {
    int descriptor = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (descriptor < 0) fail("socket");
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    static const uint8_t window_max[] = {0, 4, 0x7f, 0xff, 0xff, 0xff}, more[] = {0x7f, 0xff, 0, 0};
    uint8_t out[128];
    size_t count = 24;
    memcpy(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    count += frame(out + count, SETTINGS, 0, 0, window_max, sizeof window_max);
    count += frame(out + count, WINDOW_UPDATE, 0, 0, more, sizeof more);
    send_all(descriptor, out, count);
    return descriptor;
}

static void open_watch(int socket, uint32_t stream, const uint8_t *block, size_t block_count, const char *id) {
    uint8_t out[512], message[64] = {0, 0, 0, 0, 40, 0x0a, 38, 0x0a, 36};
    memcpy(message + 9, id, 36);
    size_t count = frame(out, HEADERS, END_HEADERS, stream, block, block_count);
    count += frame(out + count, DATA, END_STREAM, stream, message, 45);
    send_all(socket, out, count);
}

static const uint8_t *varint(const uint8_t *at, const uint8_t *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; at < end && shift < 64; shift += 7) {
        *value |= (uint64_t)(*at & 0x7f) << shift;
        if (!(*at++ & 0x80)) return at;
    }
    return NULL;
}

/* Finds a field in a message: its bytes, or its number. NULL: it has none. */
static const uint8_t *field(
    const uint8_t *at, const uint8_t *end, uint32_t wanted, const uint8_t **field_end, uint64_t *number) {
    while (at && at < end) {
        uint64_t tag, value;
        if (!(at = varint(at, end, &tag))) return NULL;
        switch (tag & 7) {
        case 0:
            if (!(at = varint(at, end, &value))) return NULL;
            if (tag >> 3 == wanted) {
                *number = value;
                return at;
            }
            break;
        case 1: at += 8; break;
        case 5: at += 4; break;
        case 2:
            if (!(at = varint(at, end, &value)) || value > (uint64_t)(end - at)) return NULL;
            if (tag >> 3 == wanted) {
                *field_end = at + value;
                return at;
            }
            at += value;
            break;
        default: return NULL;
        }
    }
    return NULL;
}

/* WatchResponse.progress.progress.updated_at */
static void take_message(const uint8_t *at, const uint8_t *end, double received_at) {
    uint64_t seconds = 0, nanoseconds = 0;
    const uint8_t *inner_end = end;
    if (at == end || *at != 0x1a) {
        other_messages += is_counting;
        return;
    }
    if (!is_counting) return;
    events++;
    if (!(at = field(at, end, 3, &inner_end, NULL)) || !(at = field(at, inner_end, 3, &inner_end, NULL)) ||
        !(at = field(at, inner_end, 6, &inner_end, NULL))) {
        fprintf(stderr, "a progress event without its time\n");
        exit(1);
    }
    field(at, inner_end, 1, NULL, &seconds);
    field(at, inner_end, 2, NULL, &nanoseconds);
    double late = (received_at - (double)seconds - (double)nanoseconds / 1e9) * 1e4;
    long bucket = late < 0 ? 0 : (long)late;
    lag[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
}

static void take_data(struct stream *stream, const uint8_t *at, size_t count, double received_at) {
    if (count > 0 && !stream->has_message) {
        stream->has_message = 1;
        ready_count++;
    }
    while (count > 0) {
        if (stream->rest > 0) {
            size_t part = stream->rest < count ? stream->rest : count;
            stream->rest -= (uint32_t)part;
            at += part;
            count -= part;
            continue;
        }
        while (stream->prefix_count < 5 && count > 0) {
            stream->prefix[stream->prefix_count++] = *at++;
            count--;
        }
        if (stream->prefix_count < 5) return;
        stream->prefix_count = 0;
        uint32_t length = (uint32_t)stream->prefix[1] << 24 | (uint32_t)stream->prefix[2] << 16 |
                          (uint32_t)stream->prefix[3] << 8 | stream->prefix[4];
        if (length <= count) {
            take_message(at, at + length, received_at);
            at += length;
            count -= length;
        } else {
            /* What is not whole in one frame is counted apart, without its lag. */
            cut_messages += is_counting;
            stream->rest = length;
        }
    }
}

static void take_frame(
    struct connection *connection, int kind, int flags, uint32_t stream, const uint8_t *payload, size_t count,
    double received_at) {
    uint8_t out[32];
    if (kind == SETTINGS && !(flags & ACK)) {
        send_all(connection->socket, out, frame(out, SETTINGS, ACK, 0, NULL, 0));
    } else if (kind == PING && !(flags & ACK)) {
        send_all(connection->socket, out, frame(out, PING, ACK, 0, payload, count));
    } else if (kind == GOAWAY) {
        fprintf(stderr, "the server says goodbye\n");
        exit(1);
    } else if (stream & 1 && (int)(stream / 2) < stream_count) {
        if (kind == DATA) take_data(&connection->streams[stream / 2], payload, count, received_at);
        if (kind == RST_STREAM || ((kind == DATA || kind == HEADERS) && flags & END_STREAM)) ended_count++;
    }
}

static void receive(struct connection *connection) {
    ssize_t count = recv(
        connection->socket, connection->received + connection->received_count,
        2 * RECEIVE_BYTES - connection->received_count, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) fail("recv");
    double received_at = now();
    connection->received_count += (size_t)count;
    const uint8_t *at = connection->received, *end = at + connection->received_count;
    while (end - at >= 9) {
        size_t length = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if ((size_t)(end - at) < 9 + length) break;
        uint32_t stream = ((uint32_t)at[5] << 24 | (uint32_t)at[6] << 16 | (uint32_t)at[7] << 8 | at[8]) & 0x7fffffff;
        take_frame(connection, at[3], at[4], stream, at + 9, length, received_at);
        at += 9 + length;
    }
    connection->received_count = (size_t)(end - at);
    memmove(connection->received, at, connection->received_count);
}

static double lag_ms(long count, double share) {
    long wanted = (long)((double)count * share), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += lag[bucket];
        if (seen >= wanted && seen > 0) return (bucket + 1) / 10.0;
    }
    return 0;
}

static void serve_until(int poll, double deadline, long wanted_ready) {
    struct epoll_event ready[64];
    while (now() < deadline && (wanted_ready == 0 || ready_count < wanted_ready)) {
        if (ended_count > 0) {
            fprintf(stderr, "watches end, after %ld have begun\n", ready_count);
            exit(1);
        }
        int count = epoll_wait(poll, ready, 64, 10);
        for (int index = 0; index < count; index++) receive(ready[index].data.ptr);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "count_events PORT CONNECTIONS STREAMS WARM_UP_S SECONDS <IDS\n");
        return 2;
    }
    int port = atoi(argv[1]), connection_count = atoi(argv[2]);
    stream_count = atoi(argv[3]);
    double warm_up = atof(argv[4]), seconds = atof(argv[5]);
    char (*ids)[37] = calloc(100001, sizeof *ids);
    int id_count = 0;
    while (id_count < 100000 && scanf("%36s", ids[id_count]) == 1) id_count++;
    if (id_count == 0) return 2;
    uint8_t block[256];
    size_t block_count = header_block(block, port);
    int poll = epoll_create1(0), next = 0;
    struct connection *connections = calloc((size_t)connection_count, sizeof *connections);
    for (int index = 0; index < connection_count; index++) {
        struct connection *connection = &connections[index];
        connection->socket = connect_to(port);
        connection->streams = calloc((size_t)stream_count, sizeof *connection->streams);
        connection->received = malloc(2 * RECEIVE_BYTES);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, connection->socket, &event) != 0) fail("epoll_ctl");
        for (int stream = 0; stream < stream_count; stream++) {
            open_watch(connection->socket, (uint32_t)stream * 2 + 1, block, block_count, ids[next++ % id_count]);
        }
        /* Answers are read while watches are opened: neither side's buffers fill up. */
        serve_until(poll, now() + 60, (long)(index + 1) * stream_count);
    }
    long watches = (long)connection_count * stream_count;
    if (ready_count < watches) {
        fprintf(stderr, "%ld of %ld watches have begun\n", ready_count, watches);
        return 1;
    }
    printf("watching\n");
    fflush(stdout);
    serve_until(poll, now() + warm_up, 0);
    is_counting = 1;
    double begin = now();
    clock_t cpu = clock();
    serve_until(poll, begin + seconds, 0);
    double took = now() - begin;
    printf(
        "{\"watches\": %ld, \"ended\": %ld, \"events\": %ld, \"cut\": %ld, \"others\": %ld, \"seconds\": %.3f, "
        "\"cpu_s\": %.3f, "
        "\"lag_p50_ms\": %.1f, \"lag_p99_ms\": %.1f, \"lag_max_ms\": %.1f}\n",
        watches, ended_count, events, cut_messages, other_messages, took,
        (double)(clock() - cpu) / CLOCKS_PER_SEC, lag_ms(events, 0.5), lag_ms(events, 0.99),
        lag_ms(events, 1.0));
    return 0;
}
