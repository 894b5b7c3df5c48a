// apigen: an application with many connections in one thread, to measure the HTTP API of a server.
//
//   apigen --port P --key KEY [--connections N] [--users N] [--rate R] [--warm S] [--seconds S] [--payload BYTES]
//
// Each connection is kept, and has one request under way: POST /v1/messages from user a<k> to user a<k+1>, of --users
// accounts that exist. With --rate all together send R requests per second, otherwise as fast as answers come.
//
// Output: JSON lines, as each phase begins: measure (the warm-up is over), stop, end (the figures). Latency is from the
// moment a request should have left to its answer, in microseconds. `failed` counts answers other than 201, `closed`
// connections that ended.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "figures.hpp"
#include "options.hpp"

namespace {

using std::to_string;
constexpr uint64_t second_ns = 1'000'000'000;

uint64_t now_ns() {
    return uint64_t(std::chrono::steady_clock::now().time_since_epoch().count());
}

struct Connection {
    int fd = -1;
    bool busy = false;
    uint64_t due_ns = 0, count = 0;
    string in;
};

class Generator {
public:
    int port = 0, users = 200, payload = 64;
    size_t size = 200;
    double rate = 0, warm = 1, seconds = 5;
    string key;

    void run() {
        poll = epoll_create1(0);
        connections.resize(size);
        for (size_t i = 0; i < size; i++) connect_to(i);
        talk(warm);
        measuring = true;
        printf("{\"phase\":\"measure\"}\n");
        fflush(stdout);
        uint64_t begun = now_ns();
        double cpu = cpu_s();
        talk(seconds);
        measuring = false;
        double took = double(now_ns() - begun) / second_ns, busy = (cpu_s() - cpu) / took;
        printf("{\"phase\":\"stop\"}\n");
        fflush(stdout);
        stopped = true;
        for (uint64_t end = now_ns() + 10 * second_ns; under_way && now_ns() < end;) turn(now_ns() + second_ns / 100);
        printf("{\"phase\":\"end\",\"answered\":%lu,\"per_s\":%.1f,%s,\"failed\":%lu,\"closed\":%lu,\"lost\":%lu,"
               "\"generator_busy\":%.3f}\n",
               figures.delivered, double(figures.delivered) / took, percentiles(figures.latency_us).c_str(),
               figures.refused, figures.closed, under_way, busy);
    }

private:
    void connect_to(size_t i) {
        Connection& one = connections[i];
        one.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in to{AF_INET, htons(uint16_t(port)), {htonl(INADDR_LOOPBACK)}, {}};
        if (connect(one.fd, reinterpret_cast<sockaddr*>(&to), sizeof to)) die("cannot connect", 69);
        int on = 1;
        setsockopt(one.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_event event{EPOLLIN, {.u64 = i}};
        epoll_ctl(poll, EPOLL_CTL_ADD, one.fd, &event);
    }

    void talk(double for_s) {
        uint64_t end = now_ns() + uint64_t(for_s * second_ns);
        if (rate <= 0)
            for (size_t i = 0; i < size; i++)
                if (!connections[i].busy) ask(i, now_ns());
        if (rate > 0 && !next_ns) next_ns = now_ns();
        while (now_ns() < end) {
            uint64_t until = std::min(end, now_ns() + second_ns / 10);
            if (rate > 0) until = std::min(until, send_what_is_due());
            turn(until);
        }
    }

    // Returns when the next request is due. One that finds its connection busy is sent by another.
    uint64_t send_what_is_due() {
        for (uint64_t now = now_ns(); next_ns <= now;) {
            size_t tried = 0;
            while (tried < size && connections[next % size].busy) next++, tried++;
            if (tried == size) return now + second_ns / 1000;
            ask(next++ % size, next_ns);
            next_ns += uint64_t(second_ns / rate);
        }
        return next_ns;
    }

    void ask(size_t i, uint64_t due_ns) {
        Connection& one = connections[i];
        size_t from = i % size_t(users);
        string text(size_t(payload), 'x');
        string body = "{\"from\":\"a" + to_string(from) + "\",\"to\":\"a" + to_string((from + 1) % size_t(users)) +
                      "\",\"text\":\"" + text + "\"}";
        string request = "POST /v1/messages HTTP/1.1\r\nHost: chat\r\nAuthorization: Bearer " + key +
                         "\r\nContent-Type: application/json\r\nIdempotency-Key: " + to_string(i) + "-" + run_name + "-" +
                         to_string(one.count++) + "\r\nContent-Length: " + to_string(body.size()) + "\r\n\r\n" + body;
        one.busy = true;
        one.due_ns = due_ns;
        under_way++;
        if (write(one.fd, request.data(), request.size()) != ssize_t(request.size())) die("a request was not taken", 69);
    }

    void turn(uint64_t until_ns) {
        epoll_event events[256];
        uint64_t now = now_ns();
        uint64_t wait_ns = until_ns > now ? until_ns - now : 0;
        timespec wait{time_t(wait_ns / second_ns), long(wait_ns % second_ns)};
        int count = epoll_pwait2(poll, events, 256, &wait, nullptr);
        for (int at = 0; at < count; at++) hear(events[at].data.u64);
    }

    void hear(size_t i) {
        Connection& one = connections[i];
        char buffer[65536];
        ssize_t got = read(one.fd, buffer, sizeof buffer);
        if (got <= 0) {
            figures.closed++;
            under_way -= one.busy;
            close(one.fd);
            uint64_t before = one.count;
            one = Connection{};
            one.count = before;
            connect_to(i);
        } else {
            one.in.append(buffer, size_t(got));
            size_t end = one.in.find("\r\n\r\n"), length = one.in.find("content-length: ");
            if (end == string::npos || length == string::npos) return;
            size_t whole = end + 4 + size_t(atol(one.in.c_str() + length + 16));
            if (one.in.size() < whole) return;
            if (one.in.compare(9, 3, "201") && figures.refused++ == 0) fprintf(stderr, "apigen: %s\n", one.in.c_str());
            one.in.erase(0, whole);
            one.busy = false;
            under_way--;
            if (measuring) {
                figures.delivered++;
                figures.latency_us.push_back(uint32_t((now_ns() - one.due_ns) / 1000));
            }
        }
        if (!stopped && rate <= 0) ask(i, now_ns());
    }

    static double cpu_s() {
        rusage used;
        getrusage(RUSAGE_SELF, &used);
        return double(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + double(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    }

    std::vector<Connection> connections;
    Figures figures;
    string run_name = to_string(now_ns() % (1000 * second_ns));
    uint64_t next_ns = 0, next = 0, under_way = 0;
    bool measuring = false, stopped = false;
    int poll = -1;
};

}  // namespace

int main(int argc, char** argv) {
    Generator one;
    for (int i = 1; i + 1 < argc; i += 2) {
        string name = argv[i], value = argv[i + 1];
        if (name == "--port") one.port = atoi(value.c_str());
        else if (name == "--key") one.key = value;
        else if (name == "--connections") one.size = size_t(atoi(value.c_str()));
        else if (name == "--users") one.users = atoi(value.c_str());
        else if (name == "--payload") one.payload = atoi(value.c_str());
        else if (name == "--rate") one.rate = atof(value.c_str());
        else if (name == "--warm") one.warm = atof(value.c_str());
        else if (name == "--seconds") one.seconds = atof(value.c_str());
        else die("unknown option " + name, 64);
    }
    if (one.port <= 0 || one.key.empty() || !one.size || one.users < 2) die("--port and --key are needed", 64);
    one.run();
}
