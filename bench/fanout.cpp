// fanout: one group, all its members online, to measure what a server spends per delivery.
//
//   fanout --port P[,P...] [--users N] [--senders N] [--qos true|false] [--window N | --rate R] [--group ID]
//          [--prefix NAME] [--payload BYTES] [--warm S] [--seconds S] [--logins-per-s R] [--burst N]
//
// mobileimsdk on TCP. Users NAME0, NAME1 ... log in with any token. NAME0 makes a group and everybody joins it, or with
// --group they are its members from an earlier run with the same --prefix. Then the first --senders users write to it:
//   --window N   each keeps N messages on their way (the default, with N = 4). With QoS a message has returned when
//                the server acknowledged it, without when everybody else has it
//   --rate R     all senders together send R messages per second, whatever comes back
// Every member acknowledges what asks for it at once, one write per read, as stock clients do.
//
// Output: five JSON lines: ready (everybody is logged in), group (everybody is a member: its number, how long that
// took), measure, stop, end. `delivered` counts copies: one message to N users is N - 1 of them; so do `lost`,
// `reordered` and `repeated`. Latency, in microseconds, is of a copy, from the moment its message should have left.
// The rest is as in loadgen.cpp.

#include "crowd.hpp"

namespace {

constexpr uint64_t join_deadline_ns = 240 * second_ns;
constexpr uint64_t quiet_ns = second_ns / 2;           // nothing came for so long: nothing is on its way
constexpr uint64_t first_request_number = 1ull << 39;  // fps of requests; messages count from 0
constexpr int joins_at_once = 20;                      // each is told to all members

// One member's view of one sender: which numbers came.
struct Course {
    uint64_t expected = 0;
    std::set<uint64_t> skipped;
};

class Fanout : Crowd {
public:
    explicit Fanout(const Options& o)
        : Crowd(o), group(o.group), copies(o.senders), courses(size_t(o.users) * o.senders), started_ns(now_ns()) {}

    void run() {
        if (o.wire != "mobileimsdk") die("a group needs --wire mobileimsdk", 64);
        log_everybody_in();
        gather();
        talk(o.warm);
        begin_measuring();
        talk(o.seconds);
        end_measuring();
        for (uint64_t end = now_ns() + settle_ns; owed > 0 && now_ns() < end;) turn(now_ns() + second_ns / 100);
        print_figures(owed);
    }

private:
    // ---------------------------------------------------------- the group

    void gather() {
        uint64_t start = now_ns();
        if (!group) {
            request(users[0], R"({\"op\":\"group.create\",\"ref\":\"g\",\"name\":\"bench\",\"join\":\"open\"})");
            await([&] { return group != 0; }, "no group was made");
            for (int next = 1; joined < o.users - 1;) {
                for (; next < o.users && next - 1 - joined < joins_at_once; next++)
                    request(users[next], R"({\"op\":\"group.join\",\"ref\":\"j\",\"group\":)" + to_string(group) + "}");
                int before = joined;
                await([&] { return joined > before; }, "nobody could join any more");
            }
        }
        address = "#" + to_string(group);
        await([&] { return now_ns() - last_read_ns > quiet_ns; }, "there is no quiet");
        printf("{\"phase\":\"group\",\"group\":%lu,\"gather_s\":%.3f,\"notices\":%lu}\n", group, (now_ns() - start) / 1e9, notices);
        fflush(stdout);
    }

    template <typename Done> void await(Done done, const char* otherwise) {
        uint64_t end = now_ns() + join_deadline_ns;
        while (!done()) {
            if (now_ns() > end || figures.closed || figures.refused) die(otherwise, 69);
            turn(now_ns() + second_ns / 100);
        }
    }

    void request(User& from, const string& body) {
        client().common_data(from, "0", body, fp_of(from, first_request_number), true);
        touch(from);
    }

    // An answer to a request, or a notice.
    void told(string_view frame) {
        if (frame.find(R"(\"event\":)") != string_view::npos) {
            notices++;
            return;
        }
        if (frame.find(R"(\"ok\":true)") == string_view::npos) die("a request was refused: " + string(frame), 69);
        if (frame.find(R"(\"ref\":\"g\")") != string_view::npos) group = number_after(frame, R"(\"id\":)");
        else joined++;
    }

    // ---------------------------------------------------------- talking

    void talk(double seconds) {
        uint64_t end = now_ns() + uint64_t(seconds * second_ns);
        if (o.rate > 0 && next_send_ns == 0) next_send_ns = now_ns();
        for (int sender = 0; sender < o.senders; sender++) fill_window(users[sender]);
        while (now_ns() < end) {
            uint64_t until = std::min(end, now_ns() + second_ns / 10);
            if (o.rate > 0) until = std::min(until, send_what_is_due());
            turn(until);
        }
    }

    void fill_window(User& sender) override {
        if (stopped || o.rate > 0 || sender.closed) return;
        while (sender.outstanding < o.window) send_message(sender, now_ns());
    }

    // Returns when the next message is due.
    uint64_t send_what_is_due() {
        uint64_t step = uint64_t(second_ns / o.rate), now = now_ns();
        for (; next_send_ns <= now; next_send_ns += step) {
            User& sender = users[next_sender++ % o.senders];
            if (!sender.closed) send_message(sender, next_send_ns);
        }
        return next_send_ns;
    }

    void send_message(User& from, uint64_t due_ns) {
        string body = "tt:" + to_string(due_ns) + ";s:" + to_string(from.index) + ";n:" + to_string(from.sent) + ";";
        if (int(body.size()) < o.payload) body.append(o.payload - body.size(), 'x');
        client().common_data(from, address, body, fp_of(from, from.sent++), o.qos);
        copies[from.index].push_back(0);
        owed += o.users - 1;
        from.outstanding++;
        figures.sent++;
        touch(from);
    }

    // ---------------------------------------------------------- what comes back

    void arrived(User& user, string_view frame) override {
        wire->acknowledge(user, frame);
        uint64_t due_ns = number_after(frame, "tt:"), sender = number_after(frame, ";s:"), number = number_after(frame, ";n:");
        if (due_ns == ~0ull) return told(frame);
        if (due_ns < started_ns) return;  // an earlier run's, whose acknowledgement did not reach the server
        if (sender >= uint64_t(o.senders) || number >= users[sender].sent) die("nobody sent " + string(frame), 70);
        Course& course = courses[user.index * o.senders + sender];
        if (number < course.expected && !course.skipped.erase(number)) {
            figures.repeated++;
            return;
        }
        figures.reordered += number < course.expected;
        for (; course.expected <= number; course.expected++)
            if (course.expected < number) course.skipped.insert(course.expected);
        if (measuring) {
            figures.delivered++;
            figures.latency_us.push_back(uint32_t(std::min<uint64_t>((now_ns() - due_ns) / 1000, ~0u)));
        }
        count_copy(users[sender], number);
    }

    void count_copy(User& sender, uint64_t number) {
        int& count = copies[sender.index][number];
        count++;
        if (sender.refused.contains(number)) return;
        owed--;
        if (!o.qos && count == o.users - 1) room(sender);
    }

    void acknowledged(User& user, string_view frame) override {
        uint64_t number = number_in(frame);
        if (number >= user.sent) return;  // a request's
        figures.acknowledged += measuring;
        room(user);
    }

    // What was refused is owed to nobody; it may come after all, when the store is slow.
    void refused(User& user, string_view frame) override {
        if (figures.refused++ == 0) fprintf(stderr, "fanout: refused: %.*s\n", int(frame.size()), frame.data());
        uint64_t number = number_in(frame);
        if (number >= user.sent || !user.refused.insert(number).second) return;
        owed -= o.users - 1 - copies[user.index][number];
        room(user);
    }

    MobileImsdk& client() { return static_cast<MobileImsdk&>(*wire); }

    uint64_t group;
    string address;
    vector<vector<int>> copies;  // of each sender's messages, by number: how many members have it
    vector<Course> courses;      // by member and sender
    int64_t owed = 0;            // copies that have not come and were not refused
    int joined = 0;
    uint64_t notices = 0, next_send_ns = 0, next_sender = 0, started_ns;
};

}  // namespace

int main(int argc, char** argv) {
    Options options = parse(argc, argv, true);
    raise_descriptor_limit();
    Fanout(options).run();
}
