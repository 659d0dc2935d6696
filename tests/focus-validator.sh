#!/bin/sh
# Judges a FOCUS CSV by the official validator (focus-validator on PyPI, with the rules of FOCUS 1.2 that it ships).
#   plimsoll export focus > costs.csv && tests/focus-validator.sh costs.csv
# Needs Python 3.12 or newer and PyPI; CI doesn't run it, tests/it/export.rs checks the columns by itself.
# One rule is left out: InvoiceId-C-005-C says that InvoiceId is never null, InvoiceId-C-004-C that it always is, and the
# validator wants one of the two (InvoiceId-C-003-C).
set -eu
csv=$(realpath "$1")
venv=${FOCUS_VENV:-${TMPDIR:-/tmp}/plimsoll-focus-validator}
if [ ! -x "$venv/bin/focus-validator" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    # What 2.2.1 needs beside its own list: pyarrow for its numpy.
    "$venv/bin/pip" install --quiet 'focus-validator==2.2.1' 'pyarrow<19'
fi
# What our exports support; the rest is about discounts, regions and resources that no log knows.
criteria=USAGE_MEASUREMENT_SUPPORTED,UNIT_PRICING_SUPPORTED,PUBLIC_PRICE_LIST_SUPPORTED,NEGOTIATED_PRICING_SUPPORTED
criteria=$criteria,MULTIPLE_PRICING_CATEGORIES_SUPPORTED,SUB_ACCOUNT_SUPPORTED,TAGGING_SUPPORTED,ACCOUNT_NAMING_SUPPORTED
criteria=$criteria,PRICING_BILLING_CURRENCY_DIFFERENCES_SUPPORTED
# It looks for its list of currencies below the folder that it is called in.
cd "$("$venv/bin/python" -c 'import focus_validator, os; print(os.path.dirname(os.path.dirname(focus_validator.__file__)))')"
told=$("$venv/bin/focus-validator" --data-file "$csv" --validate-version 1.2.0.1 --block-download \
    --applicability-criteria "$criteria" 2>&1)
echo "$told" | grep '^Total:' || { echo "$told" | tail -5; exit 2; }
failed=$(echo "$told" | grep ': FAIL ' | grep -v 'InvoiceId-C-005-C' || true)
[ -z "$failed" ] || { echo "$failed"; exit 1; }
echo "passed"
