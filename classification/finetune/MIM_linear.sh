#!/usr/bin/env bash
# The same as ../MIM_linear.sh, where published commands look for it.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../MIM_linear.sh" "$@"
