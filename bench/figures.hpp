// What the generator counts, and percentiles of what it timed.

#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

struct Figures {
    uint64_t delivered = 0, acknowledged = 0, reads = 0;  // while measuring
    uint64_t sent = 0, reordered = 0, repeated = 0, refused = 0, closed = 0;  // the whole run
    std::vector<uint32_t> latency_us;  // of what was delivered while measuring
};

inline uint32_t percentile(const std::vector<uint32_t>& sorted, double share) {
    return sorted.empty() ? 0 : sorted[size_t(share * (sorted.size() - 1))];
}

inline std::string percentiles(std::vector<uint32_t>& of) {
    std::sort(of.begin(), of.end());
    return "\"p50_us\":" + std::to_string(percentile(of, .5)) + ",\"p99_us\":" + std::to_string(percentile(of, .99)) +
           ",\"p999_us\":" + std::to_string(percentile(of, .999)) + ",\"max_us\":" + std::to_string(percentile(of, 1));
}
