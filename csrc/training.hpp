// The inputs and outputs of the loss, the update of a training step and dropout, in pointers.
//
// The caller owns all memory. Nothing overlaps, and everything is contiguous in the given shape, in row-major order.
#pragma once

#include "numbers.hpp"

namespace gatewise {

// Softmax cross-entropy of a linear layer, z = x Wᵀ + b: nll = s Σₙ (log Σᵥ exp zₙᵥ − zₙ,targetₙ), and its gradients
// with dz = s (softmax z − onehot(target)): dx = dz W, dW = dzᵀ x, db = Σₙ dzₙ. N rows, H inputs, V outputs.
template <class Real>
struct LinearLoss {
    Index N, H, V;
    Index chunk;                  // the maximum number of rows whose logits are held at a time; 1 or more
    const Real* x;                // (N, H)
    const Real* weight;           // (V, H)
    const Real* bias;             // (V), or null
    const std::int64_t* targets;  // (N), each 0 to V − 1
    double scale;                 // s
    // Outputs, fully written; the gradients if not null:
    double* nll;  // a scalar
    Real *dx, *dweight, *dbias;
};

// A parameter, its gradient, and its Adam state.
struct Parameter {
    float* p;        // (count)
    const float* g;  // (count); or (row_count, width), the gradient of the rows in `rows`, zero elsewhere
    float *m, *v;    // (count), for Adam; null for SGD
    Index count;
    const std::int64_t* rows;           // (row_count), strictly increasing
    Index row_count, width;             // width 0: the gradient is dense; else width divides count
    double correction_m, correction_v;  // 1 − β₁ᵗ, 1 − β₂ᵗ

    GATEWISE_INLINE Index gradient_count() const { return width ? row_count * width : count; }
};

enum class UpdateRule : int { sgd = 0, adam = 1, adamw = 2 };

// One step of torch.optim's SGD (without momentum), Adam or AdamW, with gradients multiplied by `clip` first:
//   SGD    p −= lr (g + λ p)
//   Adam   g += λ p (AdamW: p −= lr λ p);  m = β₁ m + (1 − β₁) g;  v = β₂ v + (1 − β₂) g²
//          p −= lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
struct Update {
    UpdateRule rule;
    double clip, lr, weight_decay, beta1, beta2, epsilon;
    const Parameter* parameters;
    Index count;
};

// √ Σ g² over the gradients of some parameters, summed in double.
struct GradientNorm {
    const Parameter* parameters;
    Index count;
    double* norm;  // output, a scalar
};

// A dropout mask, or its product with x: `scale` where the random integer of an element is below `kept`, else 0. The seed determines the
// integers, two per word of a generator, the lower half first: see gatewise.nn.dropout.
struct DropoutMask {
    Index count;
    std::uint64_t seed;
    std::int32_t kept;
    float scale;
    const float* x;  // (count), or null
    float* out;      // the product or, without x, the mask
};

}  // namespace gatewise
