/* etwrec.dll records each call of the ETW provider API in a process, one JSON object a line.
 *
 * Loaded before Python, it overwrites the entry points of ntdll.dll that Wine's advapi32.dll and
 * api-ms-win-eventing-provider-l1-1-0.dll forward to. So what is recorded is what callers that know
 * nothing of it pass to the Win32 API, below their own bindings.
 *
 * Set by environment variables (numbers as in C; where one is not set, the value in brackets):
 *   ETWREC_FILE                       where to write; each process appends (etwrec.jsonl)
 *   ETWREC_LEVEL                      level that the session asks for; -1: nobody listens (5)
 *   ETWREC_ANY, ETWREC_ALL            its keyword masks; 0 stands for no restriction (all bits, 0)
 *   ETWREC_CALLBACK                   0: EventRegister does not call back (1)
 *   ETWREC_REGISTER_ERROR, ETWREC_SETINFO_ERROR, ETWREC_WRITE_ERROR
 *                                     Win32 error code that the function returns (0)
 * While the program runs, EtwRecNotify changes who listens, and calls back.
 *
 * Each GUID is written as its 16 bytes in memory. Each handle is odd enough that no made-up one
 * passes for it. What is refused (a wrong handle, more than 128 data descriptors, more than 64 KiB)
 * follows Microsoft's documentation; Windows itself may refuse more.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#define MAX_REGISTRATIONS 1024
#define FIRST_HANDLE 0x00E7000000000001ull
#define MAX_DATA_DESCRIPTORS 128
#define EVENT_HEADER_BYTES 80
#define RELATED_ACTIVITY_BYTES 24
#define MAX_EVENT_BYTES 65535
#define LONGEST_TEXT 512
#define LONGEST_RECORDED_DATA (1u << 20)
#define SET_TRAITS 2
#define ENABLE_PROVIDER 1

#define API __declspec(dllexport)

typedef ULONGLONG Handle;
typedef void(NTAPI *Callback)(const GUID *source, ULONG code, UCHAR level, ULONGLONG any,
                              ULONGLONG all, void *filter, void *context);

typedef struct { /* EVENT_DESCRIPTOR */
    USHORT id;
    UCHAR version, channel, level, opcode;
    USHORT task;
    ULONGLONG keyword;
} Descriptor;

typedef struct { /* EVENT_DATA_DESCRIPTOR */
    ULONGLONG address;
    ULONG size;
    UCHAR type, reserved1;
    USHORT reserved2;
} Data;

typedef struct {
    int is_registered; /* what was unregistered keeps its callback, so that it can be called late */
    GUID provider;
    Callback callback;
    void *context;
} Registration;

static Registration registrations[MAX_REGISTRATIONS];
static CRITICAL_SECTION lock; /* of the registrations and of the file */
static HANDLE file = INVALID_HANDLE_VALUE;
static LONG calls;
static __thread GUID thread_activity;

static long session_level = 5, calls_back = 1;
static ULONGLONG session_any = ~0ull, session_all = 0;
static long register_error, set_information_error, write_error;

/* ---- lines of JSON ---------------------------------------------------------------------------- */

typedef struct {
    char *text;
    size_t length, room;
} Line;

static void make_room(Line *line, size_t more)
{
    if (line->length + more + 1 <= line->room)
        return;
    line->room = (line->length + more + 1) * 2;
    line->text = realloc(line->text, line->room);
    if (!line->text)
        abort();
}

static void add(Line *line, const char *format, ...)
{
    char text[LONGEST_TEXT];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_room(line, length);
    memcpy(line->text + line->length, text, length);
    line->length += length;
}

static void add_hex(Line *line, const void *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *byte = bytes;
    make_room(line, 2 * count);
    for (size_t i = 0; i < count; i++) {
        line->text[line->length++] = digits[byte[i] >> 4];
        line->text[line->length++] = digits[byte[i] & 15];
    }
}

static void add_bytes(Line *line, const char *key, const void *bytes, size_t count)
{
    if (!bytes) {
        add(line, ",\"%s\":null", key);
        return;
    }
    add(line, ",\"%s\":\"", key);
    add_hex(line, bytes, count);
    add(line, "\"");
}

static Line begin(const char *function)
{
    Line line = {0};
    add(&line, "{\"call\":%ld,\"pid\":%lu,\"tid\":%lu,\"function\":\"%s\"",
        InterlockedIncrement(&calls), GetCurrentProcessId(), GetCurrentThreadId(), function);
    return line;
}

static void open_file(void)
{
    char path[LONGEST_TEXT];
    if (!GetEnvironmentVariableA("ETWREC_FILE", path, sizeof path))
        strcpy(path, "etwrec.jsonl");
    file = CreateFileA(path, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                       OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        fprintf(stderr, "etwrec: cannot write %s: error %lu\n", path, GetLastError());
        abort();
    }
}

static void end(Line *line, ULONG result)
{
    DWORD written;
    add(line, ",\"result\":%lu}\n", result);
    EnterCriticalSection(&lock);
    if (file == INVALID_HANDLE_VALUE)
        open_file();
    WriteFile(file, line->text, (DWORD)line->length, &written, NULL);
    LeaveCriticalSection(&lock);
    free(line->text);
}

/* ---- registrations ---------------------------------------------------------------------------- */

static Registration *find(Handle handle)
{
    ULONGLONG number = handle - FIRST_HANDLE;
    if (number >= MAX_REGISTRATIONS || !registrations[number].is_registered)
        return NULL;
    return &registrations[number];
}

static void add_registration(Line *line, Handle handle)
{
    Registration *found = find(handle);
    add(line, ",\"handle\":\"%llx\"", handle);
    add_bytes(line, "provider", found ? &found->provider : NULL, sizeof(GUID));
}

static int is_wanted(UCHAR level, ULONGLONG keyword)
{
    if (session_level < 0 || (level && session_level && level > session_level))
        return 0;
    if (!keyword)
        return 1;
    return (!session_any || (keyword & session_any)) && (keyword & session_all) == session_all;
}

static void call_back(const Registration *registration, ULONG code)
{
    static const GUID no_source;
    Line line = begin("callback");
    add_bytes(&line, "provider", &registration->provider, sizeof(GUID));
    add(&line, ",\"code\":%lu,\"level\":%ld", code, session_level);
    end(&line, 0);
    registration->callback(&no_source, code, (UCHAR)session_level, session_any, session_all, NULL,
                           registration->context);
}

API ULONG WINAPI EventRegister(const GUID *provider, Callback callback, void *context,
                               Handle *handle)
{
    ULONG result = provider && handle ? (ULONG)register_error : ERROR_INVALID_PARAMETER;
    Registration new = {1, {0}, callback, context};
    int number = 0;

    if (!result) {
        new.provider = *provider;
        EnterCriticalSection(&lock);
        while (number < MAX_REGISTRATIONS && registrations[number].is_registered)
            number++;
        if (number < MAX_REGISTRATIONS)
            registrations[number] = new;
        else
            result = ERROR_NOT_ENOUGH_MEMORY;
        LeaveCriticalSection(&lock);
    }
    if (!result)
        *handle = FIRST_HANDLE + number;
    Line line = begin("EventRegister");
    add_bytes(&line, "provider", provider, sizeof(GUID));
    add(&line, ",\"handle\":\"%llx\",\"has_callback\":%s", result ? 0 : *handle,
        callback ? "true" : "false");
    end(&line, result);
    if (!result && callback && calls_back && session_level >= 0)
        call_back(&new, ENABLE_PROVIDER);
    return result;
}

API ULONG WINAPI EventUnregister(Handle handle)
{
    Registration *found = find(handle);
    ULONG result = found ? ERROR_SUCCESS : ERROR_INVALID_HANDLE;
    Line line = begin("EventUnregister");
    add_registration(&line, handle);
    end(&line, result);
    if (found)
        found->is_registered = 0;
    return result;
}

/* Change who listens, and call back as Windows does when a session starts, changes or stops.
   With to_all, also the callbacks of what has been unregistered, as if they came late. */
API void WINAPI EtwRecNotify(ULONG code, long level, ULONGLONG any, ULONGLONG all, int to_all)
{
    session_level = level;
    session_any = any;
    session_all = all;
    for (int number = 0; number < MAX_REGISTRATIONS; number++) {
        const Registration *each = &registrations[number];
        if (each->callback && (each->is_registered || to_all))
            call_back(each, code);
    }
}

/* ---- events ----------------------------------------------------------------------------------- */

static int are_traits(const unsigned char *traits, ULONG size)
{
    return traits && size >= 3 && (ULONG)(traits[0] | traits[1] << 8) == size
           && memchr(traits + 2, 0, size - 2);
}

API ULONG WINAPI EventSetInformation(Handle handle, ULONG kind, void *information, ULONG size)
{
    ULONG result = set_information_error;
    if (!find(handle))
        result = ERROR_INVALID_HANDLE;
    else if (kind == SET_TRAITS && !are_traits(information, size))
        result = ERROR_INVALID_PARAMETER;
    Line line = begin("EventSetInformation");
    add_registration(&line, handle);
    add(&line, ",\"class\":%lu", kind);
    add_bytes(&line, "information", information, size);
    end(&line, result);
    return result;
}

API BOOLEAN WINAPI EventProviderEnabled(Handle handle, UCHAR level, ULONGLONG keyword)
{
    BOOLEAN result = find(handle) && is_wanted(level, keyword);
    Line line = begin("EventProviderEnabled");
    add_registration(&line, handle);
    add(&line, ",\"level\":%u,\"keyword\":\"%llx\"", level, keyword);
    end(&line, result);
    return result;
}

API BOOLEAN WINAPI EventEnabled(Handle handle, const Descriptor *event)
{
    BOOLEAN result = find(handle) && event && is_wanted(event->level, event->keyword);
    Line line = begin("EventEnabled");
    add_registration(&line, handle);
    add_bytes(&line, "descriptor", event, sizeof *event);
    end(&line, result);
    return result;
}

/* What metadata or traits take in an event: an item of its own, rounded up. */
static ULONGLONG item_bytes(ULONG size)
{
    return 8 + ((ULONGLONG)size + 7) / 8 * 8;
}

static ULONG verdict(Handle handle, const Descriptor *event, const GUID *related, ULONG count,
                     const Data *data)
{
    ULONGLONG size = EVENT_HEADER_BYTES + (related ? RELATED_ACTIVITY_BYTES : 0);
    if (!find(handle))
        return ERROR_INVALID_HANDLE;
    if (!event || count > MAX_DATA_DESCRIPTORS || (count && !data))
        return ERROR_INVALID_PARAMETER;
    for (ULONG i = 0; i < count; i++)
        size += data[i].type ? item_bytes(data[i].size) : data[i].size;
    return size > MAX_EVENT_BYTES ? ERROR_ARITHMETIC_OVERFLOW : (ULONG)write_error;
}

static ULONG write_event(const char *function, Handle handle, const Descriptor *event,
                         const GUID *activity, const GUID *related, ULONG count, const Data *data)
{
    ULONG result = verdict(handle, event, related, count, data);
    Line line = begin(function);
    add_registration(&line, handle);
    add_bytes(&line, "descriptor", event, sizeof *event);
    add(&line, ",\"is_wanted\":%s",
        event && is_wanted(event->level, event->keyword) ? "true" : "false");
    add_bytes(&line, "activity", activity, sizeof(GUID));
    add_bytes(&line, "related", related, sizeof(GUID));
    add_bytes(&line, "thread_activity", &thread_activity, sizeof(GUID));
    add(&line, ",\"data\":[");
    for (ULONG i = 0; data && count <= MAX_DATA_DESCRIPTORS && i < count; i++) {
        add(&line, "%s{\"type\":%u,\"reserved\":%u,\"size\":%lu", i ? "," : "", data[i].type,
            data[i].reserved1 | data[i].reserved2, data[i].size);
        if (data[i].size <= LONGEST_RECORDED_DATA)
            add_bytes(&line, "bytes", (void *)(uintptr_t)data[i].address, data[i].size);
        add(&line, "}");
    }
    add(&line, "]");
    end(&line, result);
    return result;
}

API ULONG WINAPI EventWrite(Handle handle, const Descriptor *event, ULONG count, const Data *data)
{
    return write_event("EventWrite", handle, event, NULL, NULL, count, data);
}

API ULONG WINAPI EventWriteTransfer(Handle handle, const Descriptor *event, const GUID *activity,
                                    const GUID *related, ULONG count, const Data *data)
{
    return write_event("EventWriteTransfer", handle, event, activity, related, count, data);
}

static GUID new_activity(void)
{
    static LONG made;
    GUID activity;
    LARGE_INTEGER now;
    QueryPerformanceCounter(&now);
    DWORD parts[4] = {(DWORD)InterlockedIncrement(&made), GetCurrentThreadId(),
                      (DWORD)now.QuadPart, GetCurrentProcessId()};
    memcpy(&activity, parts, sizeof activity);
    return activity;
}

API ULONG WINAPI EventActivityIdControl(ULONG code, GUID *activity)
{
    ULONG result = activity ? ERROR_SUCCESS : ERROR_INVALID_PARAMETER;
    GUID before = thread_activity;
    if (!result) {
        switch (code) {
        case 1: *activity = before; break;
        case 2: thread_activity = *activity; break;
        case 3: *activity = new_activity(); break;
        case 4: thread_activity = *activity; *activity = before; break;
        case 5: *activity = before; thread_activity = new_activity(); break;
        default: result = ERROR_INVALID_PARAMETER;
        }
    }
    Line line = begin("EventActivityIdControl");
    add(&line, ",\"code\":%lu", code);
    add_bytes(&line, "activity", activity, sizeof(GUID));
    end(&line, result);
    return result;
}

/* ---- when the DLL is loaded ------------------------------------------------------------------- */

static void replace(HMODULE module, const char *name, void *replacement)
{
    /* mov rax, replacement; jmp rax */
    unsigned char jump[12] = {0x48, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xE0};
    DWORD protection;
    void *entry = (void *)GetProcAddress(module, name);
    memcpy(jump + 2, &replacement, sizeof replacement);
    if (!entry || !VirtualProtect(entry, sizeof jump, PAGE_EXECUTE_READWRITE, &protection)) {
        fprintf(stderr, "etwrec: cannot replace %s\n", name);
        abort();
    }
    memcpy(entry, jump, sizeof jump);
    VirtualProtect(entry, sizeof jump, protection, &protection);
    FlushInstructionCache(GetCurrentProcess(), entry, sizeof jump);
}

static void read_number(const char *name, long *number)
{
    char text[64];
    if (GetEnvironmentVariableA(name, text, sizeof text))
        *number = strtol(text, NULL, 0);
}

static void read_mask(const char *name, ULONGLONG *mask)
{
    char text[64];
    if (GetEnvironmentVariableA(name, text, sizeof text))
        *mask = strtoull(text, NULL, 0);
}

BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, void *reserved)
{
    (void)instance, (void)reserved;
    if (reason != DLL_PROCESS_ATTACH)
        return TRUE;
    InitializeCriticalSection(&lock);
    read_number("ETWREC_LEVEL", &session_level);
    read_number("ETWREC_CALLBACK", &calls_back);
    read_number("ETWREC_REGISTER_ERROR", &register_error);
    read_number("ETWREC_SETINFO_ERROR", &set_information_error);
    read_number("ETWREC_WRITE_ERROR", &write_error);
    read_mask("ETWREC_ANY", &session_any);
    read_mask("ETWREC_ALL", &session_all);
    HMODULE ntdll = GetModuleHandleA("ntdll.dll");
    replace(ntdll, "EtwEventRegister", EventRegister);
    replace(ntdll, "EtwEventUnregister", EventUnregister);
    replace(ntdll, "EtwEventSetInformation", EventSetInformation);
    replace(ntdll, "EtwEventProviderEnabled", EventProviderEnabled);
    replace(ntdll, "EtwEventEnabled", EventEnabled);
    replace(ntdll, "EtwEventWrite", EventWrite);
    replace(ntdll, "EtwEventWriteTransfer", EventWriteTransfer);
    replace(ntdll, "EtwEventActivityIdControl", EventActivityIdControl);
    return TRUE;
}
