/* A stand-in for libnvidia-ml.so.1. The file named by FAKE_NVML says what it answers, one "key number" per line, and is
 * read anew by every call; the file with ".log" after that name lists when it was initialised and shut down. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, GPUS = 4 };

typedef struct { unsigned index; } Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Rates;
typedef struct { unsigned version, sensor; int degrees; } Temperature;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;

static Device devices[GPUS] = {{0}, {1}, {2}, {3}};
static int initialised = 0;

static long long say(const char *wanted, int index, long long otherwise) {
    char name[64], key[64];
    long long value, found = otherwise;
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (!file) return otherwise;
    if (index < 0) snprintf(name, sizeof name, "%s", wanted);
    else snprintf(name, sizeof name, "%s.%d", wanted, index);
    while (fscanf(file, "%63s %lld", key, &value) == 2)
        if (!strcmp(key, name)) found = value;
    fclose(file);
    return found;
}

static void note(const char *what) {
    char path[4096];
    snprintf(path, sizeof path, "%s.log", getenv("FAKE_NVML"));
    FILE *file = fopen(path, "a");
    if (!file) abort();
    fprintf(file, "%s\n", what);
    fclose(file);
}

/* What every call answers first: it hangs while it is told to, and fails while it is told to. */
static int state(void) {
    while (say("hang", -1, 0)) usleep(5000);
    if (!initialised) return UNINITIALIZED;
    return (int)say("fails", -1, SUCCESS);
}

static int of(const Device *device, const char *what) {
    int bad = state();
    return bad ? bad : (int)say(what, (int)device->index, SUCCESS);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    while (say("hang", -1, 0)) usleep(5000);
    int bad = (int)say("init", -1, SUCCESS);
    note(bad ? "refused" : "init");
    if (!bad) initialised = 1;
    return bad;
}

int nvmlShutdown(void) {
    if (!initialised) return UNINITIALIZED;
    note("shutdown");
    initialised = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int code) { return code == 999 ? "Unknown Error" : "some error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned room) {
    int bad = state();
    if (!bad) snprintf(text, room, "580.65.06");
    return bad;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int bad = state();
    if (!bad) *count = (unsigned)say("count", -1, 1);
    return bad;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index >= GPUS) return INVALID;
    *device = &devices[index];
    return of(*device, "handle_fails");
}

int nvmlDeviceGetName(Device *device, char *text, unsigned room) {
    int bad = of(device, "name_fails");
    if (!bad) snprintf(text, room, "Fake GPU %u", device->index);
    return bad;
}

int nvmlDeviceGetUUID(Device *device, char *text, unsigned room) {
    int bad = of(device, "uuid_fails");
    if (!bad) snprintf(text, room, "GPU-000%u", device->index);
    return bad;
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    int bad = of(device, "memory_fails");
    if (bad) return bad;
    memory->total = (unsigned long long)say("total_mb", (int)device->index, 24576) << 20;
    memory->free = (unsigned long long)say("free_mb", (int)device->index, 20000) << 20;
    memory->used = memory->total - memory->free;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, Rates *rates) {
    int bad = of(device, "load_fails");
    if (bad) return bad;
    rates->gpu = (unsigned)say("load", (int)device->index, 40);
    rates->memory = 0;
    return SUCCESS;
}

int nvmlDeviceGetTemperatureV(Device *device, Temperature *temperature) {
    int bad = of(device, "new_temperature_fails");
    if (!bad) temperature->degrees = (int)say("temperature", (int)device->index, 55);
    return bad;
}

int nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *degrees) {
    (void)sensor;
    int bad = of(device, "old_temperature_fails");
    if (!bad) *degrees = (unsigned)say("temperature", (int)device->index, 55) + 1; /* One can see which was asked. */
    return bad;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *now, unsigned *then) {
    long long mode = say("mig", (int)device->index, -1);
    int bad = state();
    if (bad || mode < 0) return bad ? bad : NOT_SUPPORTED;
    *now = *then = (unsigned)mode;
    return SUCCESS;
}

/* Processes 100, 101, …; number n holds n + 1 GiB, or what can't be told. */
static int list(Device *device, const char *what, unsigned *room, Process *processes) {
    unsigned count = (unsigned)say(what, (int)device->index, 0);
    int untold = (int)say("untold", (int)device->index, 0);
    if (!count) {
        *room = 0;
        return SUCCESS;
    }
    if (*room < count) {
        *room = count;
        return INSUFFICIENT_SIZE;
    }
    for (unsigned n = 0; n < count; n++) {
        memset(&processes[n], 0, sizeof(Process));
        processes[n].pid = 100 + n;
        processes[n].used = untold ? ~0ULL : (unsigned long long)(n + 1) << 30;
    }
    *room = count;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *room, Process *processes) {
    int bad = of(device, "processes_fail");
    return bad ? bad : list(device, "computing", room, processes);
}

int nvmlDeviceGetComputeRunningProcesses_v2(Device *device, unsigned *room, Process *processes) {
    int bad = of(device, "old_processes_fail");
    return bad ? bad : list(device, "computing", room, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *device, unsigned *room, Process *processes) {
    int bad = of(device, "processes_fail");
    return bad ? bad : list(device, "drawing", room, processes);
}
