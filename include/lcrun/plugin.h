/* lcrun plugin interface: what a shared object exports to be found by `lcrun plugins` and loaded with --plugin.
 *
 * A plugin exports one function, lcrun_plugin_query. The host says which interface it speaks and passes services;
 * the plugin fills a table of functions. Both structs begin with {abi_version, struct_size} and grow only at their
 * end: a side looks at a field only if the other side's struct_size covers it. Plain C; no exceptions, no C++
 * types, and no memory changes hands: strings belong to whoever made them, buffers to the caller.
 *
 * Thread rule: the host calls a plugin from one thread at a time.
 */
#ifndef LCRUN_PLUGIN_H
#define LCRUN_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a field changes its meaning; a plugin of another version is refused. New fields at the end do not
 * raise it. */
#define LCRUN_PLUGIN_ABI 1u

/* Results of plugin functions. */
enum {
  LCRUN_PLUGIN_OK = 0,
  LCRUN_PLUGIN_ERROR = 1,      /* see last_error */
  LCRUN_PLUGIN_UNSUPPORTED = 2 /* of lcrun_plugin_query: the host's version is not spoken here */
};

/* Services of the host. Lives as long as the plugin is loaded. */
typedef struct lcrun_host {
  uint32_t abi_version;
  uint32_t struct_size;
  void* context;
  /* level: 0 debug, 1 info, 2 warning, 3 error. Any thread. */
  void (*log)(void* context, int32_t level, const char* text);
} lcrun_host;

typedef struct lcrun_plugin_device {
  uint32_t struct_size; /* set by the host */
  uint32_t reserved;
  char name[128];        /* NUL-terminated */
  uint64_t memory_bytes; /* 0 = not known */
} lcrun_plugin_device;

typedef struct lcrun_plugin {
  uint32_t abi_version; /* set by the plugin */
  uint32_t struct_size; /* in: room the host has; out: what the plugin knows */
  void* instance;       /* passed to every function */
  const char* name;     /* "null", "cuda": lower case, stays valid until close */
  const char* version;
  int32_t (*device_count)(void* instance); /* negative = error */
  int32_t (*device_info)(void* instance, int32_t device, lcrun_plugin_device* out);
  /* Checks that the plugin works here; writes a NUL-terminated line for people into `report`. */
  int32_t (*self_test)(void* instance, char* report, uint64_t report_bytes);
  const char* (*last_error)(void* instance);
  void (*close)(void* instance);
} lcrun_plugin;

/* The one exported function. */
#if defined(__GNUC__)
#define LCRUN_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define LCRUN_PLUGIN_EXPORT
#endif
typedef int32_t (*lcrun_plugin_query_fn)(uint32_t host_abi, const lcrun_host* host, lcrun_plugin* plugin);
LCRUN_PLUGIN_EXPORT int32_t lcrun_plugin_query(uint32_t host_abi, const lcrun_host* host, lcrun_plugin* plugin);

#ifdef __cplusplus
}
#endif

#endif /* LCRUN_PLUGIN_H */
