/* Stands for the ETW provider functions of Windows, so that what calls them can be measured anywhere.
 *
 * It does what costs a caller time there too: it tells the provider who listens, looks whether an
 * event is wanted, and copies the event's pieces. Every contender calls the same functions.
 */
#include <stdint.h>
#include <string.h>

#define API __attribute__((visibility("default")))

typedef void (*Callback)(const void *source, uint32_t code, uint8_t level, uint64_t any,
                         uint64_t all, void *filter, void *context);

typedef struct {
    uint64_t address;
    uint32_t size, type;
} Data;

enum { ENABLE = 1, ALL_LEVELS = 255, TOO_LONG = 534, HANDLE = 0xE7 };

static const char no_source[16];
static int is_listening;
static uint64_t events;
static char event[65536]; /* the last one: its descriptor, then its pieces */
static uint32_t event_bytes;

/* To be called before the provider is registered. */
API void standin_listen(int listens)
{
    is_listening = listens;
}

API uint64_t standin_events(void)
{
    return events;
}

API uint32_t standin_last_event(char *copy)
{
    memcpy(copy, event, event_bytes);
    return event_bytes;
}

API uint32_t EventRegister(const void *provider, Callback callback, void *context,
                           uint64_t *handle)
{
    (void)provider;
    *handle = HANDLE;
    if (callback && is_listening)
        callback(no_source, ENABLE, ALL_LEVELS, ~0ull, 0, 0, context);
    return 0;
}

API uint32_t EventUnregister(uint64_t handle)
{
    (void)handle;
    return 0;
}

API uint32_t EventSetInformation(uint64_t handle, uint32_t kind, const void *data, uint32_t size)
{
    (void)handle, (void)kind, (void)data, (void)size;
    return 0;
}

API uint8_t EventProviderEnabled(uint64_t handle, uint8_t level, uint64_t keyword)
{
    (void)handle, (void)level, (void)keyword;
    return is_listening;
}

API uint32_t EventWriteTransfer(uint64_t handle, const void *descriptor, const void *activity,
                                const void *related, uint32_t count, const Data *data)
{
    uint32_t used = 16;
    (void)handle, (void)activity, (void)related;
    if (!is_listening)
        return 0;
    memcpy(event, descriptor, 16);
    for (uint32_t i = 0; i < count; i++) {
        if (data[i].size > sizeof event - used)
            return TOO_LONG;
        memcpy(event + used, (const void *)(uintptr_t)data[i].address, data[i].size);
        used += data[i].size;
    }
    event_bytes = used;
    events++;
    return 0;
}
