// Boost.Interprocess: a managed_mapped_file, its allocator, and maps in it. Compiled only where
// Boost's headers are found; twice where there are two Boosts, the newer one with its namespace renamed.
// What this gives is one table of functions, called BOOST_FUNCTIONS.

#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/containers/string.hpp>
#include <boost/interprocess/managed_mapped_file.hpp>
#include <boost/unordered_map.hpp>
#include <boost/version.hpp>
// Before 1.84 the open-addressing map keeps plain pointers, which mean nothing in another process.
#define MAP_IS_FLAT (BOOST_VERSION >= 108400)
#if MAP_IS_FLAT
#include <boost/unordered/unordered_flat_map.hpp>
#endif
#include <cstdint>

namespace ip = boost::interprocess;
using Segment = ip::managed_mapped_file;
using Manager = Segment::segment_manager;
using TextAllocator = ip::allocator<char, Manager>;
using Text = ip::basic_string<char, std::char_traits<char>, TextAllocator>;

template <class K>
using PairAllocator = ip::allocator<std::pair<const K, std::uint64_t>, Manager>;
// The open-addressing map is the faster one, where Boost is new enough to have it and lets it live
// behind offset pointers.
#if MAP_IS_FLAT
template <class K>
using Map = boost::unordered_flat_map<K, std::uint64_t, boost::hash<K>, std::equal_to<K>, PairAllocator<K>>;
#else
template <class K>
using Map = boost::unordered_map<K, std::uint64_t, boost::hash<K>, std::equal_to<K>, PairAllocator<K>>;
#endif

namespace {

// Keys as the caller has them: numbers, and texts of 16 characters.
struct SixteenCharacters {
    char characters[16];
};

std::uint64_t as_key(Segment &, std::uint64_t key) { return key; }

Text as_key(Segment &segment, const SixteenCharacters &key) {
    return Text(key.characters, 16, TextAllocator(segment.get_segment_manager()));
}

template <class K, class Given>
void insert_all(Segment &segment, Map<K> &map, const Given *keys, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        map.emplace(as_key(segment, keys[i]), i);
}

template <class K, class Given>
std::uint64_t find_all(Segment &segment, Map<K> &map, const Given *keys, std::size_t count) {
    std::uint64_t found = 0;
    for (std::size_t i = 0; i < count; ++i)
        found += map.find(as_key(segment, keys[i])) != map.end();
    return found;
}

template <class K, class Given>
void remove_all(Segment &segment, Map<K> &map, const Given *keys, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        map.erase(as_key(segment, keys[i]));
}

template <class K> std::uint64_t sum(const Map<K> &map) {
    std::uint64_t sum = 0;
    for (const auto &pair : map)
        sum += pair.second;
    return sum;
}

template <class K> Map<K> *new_map(Segment &segment) {
    return segment.construct<Map<K>>(ip::anonymous_instance)(
        PairAllocator<K>(segment.get_segment_manager()));
}

void *create(const char *path, std::size_t size) try {
    return new Segment(ip::create_only, path, size);
} catch (...) {
    return nullptr;
}

void *open(const char *path) try {
    return new Segment(ip::open_only, path);
} catch (...) {
    return nullptr;
}

void close(void *segment) { delete static_cast<Segment *>(segment); }

void *alloc(void *segment, std::size_t size) {
    return static_cast<Segment *>(segment)->allocate(size, std::nothrow);
}

void free(void *segment, void *block) { static_cast<Segment *>(segment)->deallocate(block); }

std::uint64_t handle(void *segment, void *block) {
    return static_cast<Segment *>(segment)->get_handle_from_address(block);
}

void *address(void *segment, std::uint64_t handle) {
    return static_cast<Segment *>(segment)->get_address_from_handle(handle);
}

void name_number(void *segment, const char *name) {
    static_cast<Segment *>(segment)->find_or_construct<std::uint64_t>(name)(7);
}

std::uint64_t find_number(void *segment, const char *name) {
    auto found = static_cast<Segment *>(segment)->find<std::uint64_t>(name).first;
    return found ? *found : 0;
}

// What Rust sees of maps from `K` to numbers. The keys are `Given`.
struct MapFunctions {
    void *(*make)(void *segment);
    void (*drop)(void *segment, void *map);
    void (*insert)(void *segment, void *map, const void *keys, std::size_t count);
    std::uint64_t (*find)(void *segment, void *map, const void *keys, std::size_t count);
    void (*remove)(void *segment, void *map, const void *keys, std::size_t count);
    std::uint64_t (*sum)(void *map);
};

template <class K, class Given> constexpr MapFunctions map_functions() {
    return {
        [](void *segment) -> void * { return new_map<K>(*static_cast<Segment *>(segment)); },
        [](void *segment, void *map) {
            static_cast<Segment *>(segment)->destroy_ptr(static_cast<Map<K> *>(map));
        },
        [](void *s, void *map, const void *keys, std::size_t count) {
            auto given = static_cast<const Given *>(keys);
            insert_all<K>(*static_cast<Segment *>(s), *static_cast<Map<K> *>(map), given, count);
        },
        [](void *s, void *map, const void *keys, std::size_t count) {
            auto given = static_cast<const Given *>(keys);
            return find_all<K>(*static_cast<Segment *>(s), *static_cast<Map<K> *>(map), given, count);
        },
        [](void *s, void *map, const void *keys, std::size_t count) {
            auto given = static_cast<const Given *>(keys);
            remove_all<K>(*static_cast<Segment *>(s), *static_cast<Map<K> *>(map), given, count);
        },
        [](void *map) { return sum<K>(*static_cast<Map<K> *>(map)); },
    };
}

// In the order of `Functions` in boost.rs.
struct Functions {
    std::uint32_t version;
    bool map_is_flat;
    void *(*create)(const char *path, std::size_t size);
    void *(*open)(const char *path);
    void (*close)(void *segment);
    void *(*alloc)(void *segment, std::size_t size);
    void (*free)(void *segment, void *block);
    std::uint64_t (*handle)(void *segment, void *block);
    void *(*address)(void *segment, std::uint64_t handle);
    void (*name_number)(void *segment, const char *name);
    std::uint64_t (*find_number)(void *segment, const char *name);
    MapFunctions numbers;
    MapFunctions texts;
};

const Functions functions = {
    BOOST_VERSION, MAP_IS_FLAT, create, open, close, alloc, free, handle, address, name_number,
    find_number, map_functions<std::uint64_t, std::uint64_t>(),
    map_functions<Text, SixteenCharacters>(),
};

} // namespace

extern "C" const void *BOOST_FUNCTIONS() { return &functions; }
