#!/bin/sh
# The alert rules as a PrometheusRule, on stdout.
set -eu
printf 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: penstock}\nspec:\n'
sed 's/^/  /' "$(dirname "$0")/../prometheus/rules.yml"
