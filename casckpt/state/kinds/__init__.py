"""Values beyond the plain ones: each kind as something simpler, and back. Pure, as all of `state`.

`reduced` says what that means, `table` who does it. Of the standard library are `objects`, `times` and `generators`, of
numpy `array_*`, of torch `tensor_*` and `quantized`; `registry` knows the classes of users, `pickled` what is left.
"""
