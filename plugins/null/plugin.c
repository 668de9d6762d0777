/* The null plugin: one device that is the host's own memory, in plain C. It proves the interface and is what the
 * tests of plugin loading load.
 *
 * Thread rule: that of plugin.h. The instance is static: the plugin may be loaded once a process.
 */
#include "lcrun/plugin.h"

#include <stdio.h>
#include <string.h>

struct null_plugin {
  const lcrun_host* host;
  const char* error;
};

static int32_t fail(struct null_plugin* self, const char* error) {
  self->error = error;
  return LCRUN_PLUGIN_ERROR;
}

static int32_t device_count(void* instance) {
  (void)instance;
  return 1;
}

static int32_t device_info(void* instance, int32_t device, lcrun_plugin_device* out) {
  struct null_plugin* self = instance;
  if (device != 0) return fail(self, "device: wanted 0");
  if (out == NULL || out->struct_size < sizeof(*out)) return fail(self, "device_info: the struct is too small");
  memset(out->name, 0, sizeof(out->name));
  snprintf(out->name, sizeof(out->name), "host memory");
  out->memory_bytes = 0;
  return LCRUN_PLUGIN_OK;
}

/* Copies a pattern and compares: what a device plugin would do through its own memory. */
static int32_t self_test(void* instance, char* report, uint64_t report_bytes) {
  struct null_plugin* self = instance;
  unsigned char from[256];
  unsigned char to[256];
  size_t i;
  if (report == NULL || report_bytes == 0) return fail(self, "self_test: no room for a report");
  for (i = 0; i < sizeof(from); ++i) from[i] = (unsigned char)(i * 37u + 11u);
  memcpy(to, from, sizeof(to));
  if (memcmp(from, to, sizeof(to)) != 0) return fail(self, "self_test: a copy differs");
  snprintf(report, (size_t)report_bytes, "copied %zu bytes and found them equal", sizeof(to));
  if (self->host->log != NULL) self->host->log(self->host->context, 0, "null plugin: self-test passed");
  return LCRUN_PLUGIN_OK;
}

static const char* last_error(void* instance) {
  struct null_plugin* self = instance;
  return self->error == NULL ? "" : self->error;
}

static void close_plugin(void* instance) { (void)instance; }

int32_t lcrun_plugin_query(uint32_t host_abi, const lcrun_host* host, lcrun_plugin* plugin) {
  static struct null_plugin self;
  if (plugin == NULL || host == NULL) return LCRUN_PLUGIN_ERROR;
  plugin->abi_version = LCRUN_PLUGIN_ABI;
  if (host_abi != LCRUN_PLUGIN_ABI || plugin->struct_size < sizeof(*plugin)) return LCRUN_PLUGIN_UNSUPPORTED;
  self.host = host;
  self.error = NULL;
  plugin->struct_size = (uint32_t)sizeof(*plugin);
  plugin->instance = &self;
  plugin->name = "null";
  plugin->version = "1";
  plugin->device_count = device_count;
  plugin->device_info = device_info;
  plugin->self_test = self_test;
  plugin->last_error = last_error;
  plugin->close = close_plugin;
  return LCRUN_PLUGIN_OK;
}
