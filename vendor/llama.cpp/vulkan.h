// Three types of vulkan.hpp that headers before 1.3.272 lack, as Debian 12's do. ggml-vulkan.cpp
// always fills them in, and uses them only with Khronos' validation layer. Members, their order
// and the number are those of VK_EXT_layer_settings.
#pragma once

#include <vulkan/vulkan_core.h>

#if VK_HEADER_VERSION < 272
#include <cstdint>
#include <vector>

namespace vk {

enum class LayerSettingTypeEXT : std::uint32_t { eBool32 = 0 };

struct LayerSettingEXT {
    const char * layer;
    const char * setting;
    LayerSettingTypeEXT type;
    std::uint32_t n_values;
    const void * values;
};

struct LayerSettingsCreateInfoEXT {
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & given)
        : n_settings(static_cast<std::uint32_t>(given.size())), settings(given.data()) {}

    // VK_STRUCTURE_TYPE_LAYER_SETTINGS_CREATE_INFO_EXT
    std::int32_t type = 1000496000;
    const void * next = nullptr;
    std::uint32_t n_settings;
    const LayerSettingEXT * settings;
};

}  // namespace vk
#endif
