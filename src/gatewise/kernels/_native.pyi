"""The extension module, as ``csrc/module.cpp`` makes it. Addresses are ``Tensor.data_ptr()``, or 0: not there."""

from enum import Enum

class Cell(Enum):
    lstm = 0
    gru = 1
    rnn_tanh = 2
    rnn_relu = 3

class Numbers(Enum):
    float32 = 0
    float64 = 1
    bfloat16 = 2
    high = 3

class Given:
    def __init__(
        self,
        cell: Cell,
        numbers: Numbers,
        T: int,
        B: int,
        I: int,
        H: int,
        reverse: bool,
        lengths: int,
        x: int,
        h_0: int,
        c_0: int,
        w_ih: int,
        w_hh: int,
        b_ih: int,
        b_hh: int,
        h_mask: int,
    ) -> None: ...

def forward(
    given: Given,
    threads: int,
    y: int,
    h_n: int,
    c_n: int,
    gates: int,
    extra: int,
    traced_gates: int,
    traced_cells: int,
) -> None: ...
def backward(
    given: Given,
    threads: int,
    y: int,
    gates: int,
    extra: int,
    dy: int,
    dh_n: int,
    dc_n: int,
    dx: int,
    dh_0: int,
    dc_0: int,
    dw_ih: int,
    dw_hh: int,
    db_ih: int,
    db_hh: int,
) -> None: ...
def rung() -> str: ...
def rungs() -> list[str]: ...
