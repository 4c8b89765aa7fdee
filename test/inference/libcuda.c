// A libcuda of host memory for test_cuda_runtime.py: the real cuda.bindings call it, as they would call the real one.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT ((void *)0xC0)
#define MADE(handle) (*(handle) = malloc(16), 0)
#define FREED(handle) (free(handle), 0)

int cuInit(unsigned flags) { return flags; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { printf("schedule %u\n", flags); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = CONTEXT; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { printf("release %d\n", device); return 0; }
int cuCtxSetCurrent(void *context) { return context == CONTEXT ? 0 : 201; }
int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    printf("stream of priority %d\n", priority);
    return flags == 1 ? MADE(stream) : 1;
}
int cuStreamDestroy_v2(void *stream) { return FREED(stream); }
int cuStreamSynchronize(void *stream) { return 0; }
int cuEventCreate(void **event, unsigned flags) { printf("event %u\n", flags); return MADE(event); }
int cuEventDestroy_v2(void *event) { return FREED(event); }
int cuEventRecord(void *event, void *stream) { return 0; }
int cuEventSynchronize(void *event) { return 0; }
int cuEventElapsedTime(float *ms, void *start, void *end) { *ms = 12.5f; return 0; }
int cuEventElapsedTime_v2(float *ms, void *start, void *end) { *ms = 12.5f; return 0; }
int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    if (bytes > 1u << 20) return 2;
    *pointer = (uint64_t)malloc(bytes);
    return 0;
}
int cuMemFree_v2(uint64_t pointer) { return FREED((void *)pointer); }
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    *pointer = malloc(bytes);
    printf("host memory %zu, flags %u\n", bytes, flags);
    return 0;
}
int cuMemFreeHost(void *pointer) { return FREED(pointer); }
int cuMemHostGetDevicePointer_v2(uint64_t *device, void *host, unsigned flags) { *device = (uint64_t)host; return flags; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)to, from, bytes);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    memcpy(to, (void *)from, bytes);
    return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    memcpy((void *)to, (void *)from, bytes);
    return 0;
}
int cuStreamBeginCapture_v2(void *stream, int mode) { return mode == 1 ? 0 : 1; }
int cuStreamEndCapture(void *stream, void **graph) { return MADE(graph); }
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    return flags ? 1 : MADE(executable);
}
int cuGraphDestroy(void *graph) { return FREED(graph); }
int cuGraphExecDestroy(void *executable) { return FREED(executable); }
int cuGraphLaunch(void *executable, void *stream) { puts("graph"); return 0; }
int cuModuleLoadData(void **module, const void *image) { return memcmp(image, "cubin", 5) ? 200 : MADE(module); }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    const char *known[] = {"label_picture", "sample_points", "mark_things"};
    *function = NULL;
    for (uintptr_t i = 0; i < 3; ++i) {
        if (!strcmp(name, known[i])) *function = (void *)(i + 1);
    }
    return *function ? 0 : 500;
}
int cuModuleUnload(void *module) { return FREED(module); }
// Writes down what came through. Of a picture every pixel gets the number of classes as its label, the row's offset as
// confidence; of points, probability and margin are their places; of marks, the first is 1.
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **p, void **extra) {
    int is_picture = (uintptr_t)function == 1, is_points = (uintptr_t)function == 2;
    printf("%s %ux%ux%u of %ux%ux%u, half %d, %dx%dx%d steps %d, %d, %d",
           is_picture ? "picture" : is_points ? "points" : "marks", gx, gy, gz, bx, by, bz, *(int *)p[1], *(int *)p[2],
           *(int *)p[3], *(int *)p[4], *(int *)p[5], *(int *)p[6], *(int *)p[7]);
    if (is_picture) {
        float *confidence = *(float **)p[14];
        printf(", first %g, logits %d%s\n", **(float **)p[0], *(int *)p[12], confidence ? "" : ", no confidence");
        for (int i = 0; i < *(int *)p[15] * *(int *)p[16]; ++i) {
            (*(unsigned char **)p[13])[i] = (unsigned char)*(int *)p[2];
            if (confidence) confidence[i] = (float)*(double *)p[11];
        }
    } else if (!is_points) {
        uint64_t *things[] = {p[8], p[9], p[10], p[11]};
        printf(", things %llx %llx %llx %llx\n", (long long)*things[0], (long long)*things[1], (long long)*things[2],
               (long long)*things[3]);
        **(unsigned char **)p[12] = 1;
    } else {
        int count = *(int *)p[17];
        float *out = *(float **)p[16];
        printf(", logits %d, image %dx%d\n", *(int *)p[12], *(int *)p[13], *(int *)p[14]);
        for (int i = 0; i < count; ++i) {
            out[i] = (float)(*(double **)p[15])[2 * i];
            out[count + i] = (float)(*(double **)p[15])[2 * i + 1];
            ((unsigned char *)(out + 2 * count))[i] = (unsigned char)*(int *)p[2];
        }
    }
    return shared || extra ? 1 : 0;
}

int cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags, int *status) {
    static void *self;
    const char *forms[] = {"%s_v2", "%sWithFlags", "%s"};
    char symbol[128];
    if (!self) self = dlopen("libcuda.so.1", RTLD_NOW);
    *address = NULL;
    for (int i = 0; i < 3 && !*address; ++i) {
        snprintf(symbol, sizeof symbol, forms[i], name);
        *address = dlsym(self, symbol);
    }
    if (status) *status = *address ? 0 : 1;
    return *address ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **address, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, address, version, flags, NULL);
}
