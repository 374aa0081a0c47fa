{
  "targets": [
    {
      "target_name": "faultless",
      "sources": ["<!@(node csrc/sources.cjs)"],
      "include_dirs": ["csrc"],
      # The variant of node-addon-api without C++ exceptions.
      "dependencies": ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api"],
      "defines": ["NAPI_VERSION=8"],
      "cflags": ["-g", "-fvisibility=hidden"],
      # Warnings are errors in a checkout only: a later compiler's new warning must not break an installation.
      "cflags_cc": [
        "-std=c++20", "-fno-exceptions", "-Wall", "-Wextra",
        "<!(node -p \"require('fs').existsSync('test') ? '-Werror' : '-Wall'\")"
      ],
      # Never unloaded, also where only workers had it and all of them have ended: the SIGBUS handler stays installed.
      "conditions": [["OS=='linux'", {"ldflags": ["-Wl,-z,nodelete"]}]],
      "configurations": {
        "Release": {"cflags": ["-O3"]},
        "Debug": {"cflags": ["-O1"]}
      },
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
        "GCC_ENABLE_CPP_EXCEPTIONS": "NO",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES"
      }
    }
  ]
}
