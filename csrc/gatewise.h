/* Gatewise: recurrent models, read and run on the CPU, in C99.
 *
 * A model is one file, written by `gatewise export RUN --to runtime --out model.gatewise`. What a model remembers
 * between two steps is a state: a value that can be copied, saved and loaded.
 *
 *     gw_error error;
 *     gw_model* model;
 *     gw_state* state;
 *     if (gw_open("model.gatewise", NULL, &model, &error)) { puts(error.message); return error.code; }
 *     gw_state_new(model, &state, &error);
 *     gw_step(model, 1, &id, &state, logits, &error);
 *
 * Rules that hold for every function:
 *   - The result is GW_OK, or a code of gw_code. `error` may be NULL; else it receives the same code and one line that
 *     says what was found, what was expected and, where it helps, what to do. Outputs are then unspecified, and states
 *     are unchanged. Nothing ends the process or throws.
 *   - There are no global variables. Several threads may use one model at the same time; a state belongs to one call at
 *     a time. A state must not outlive its model.
 *   - Results depend on nothing but the model, its state and the input: not on the number of threads, on the other rows
 *     of a call, or on how a sequence is divided among calls, to the last bit.
 *   - Text is UTF-8 with its size in bytes, without a closing zero. Structures begin with their size, which the caller
 *     sets with sizeof: a newer library reads those of an older header.
 *
 * Letters: B rows, T steps, I numbers a step, L layers, H units, G gates, V words, C labels.
 */
#ifndef GATEWISE_H
#define GATEWISE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GW_API __attribute__((visibility("default")))

/* The version of this interface; functions and fields are added, not changed, while it stays the same. */
#define GW_ABI 1

/* Codes, where a number exists also the exit status of the command line. */
enum gw_code {
    GW_OK = 0,
    GW_NOT_FINITE = 1, /* an output or a new state is not finite */
    GW_USAGE = 2,      /* an argument is invalid, or the model does not do this */
    GW_DATA = 3,       /* an input or a saved state is invalid */
    GW_MODEL = 4,      /* a model file is missing or invalid */
    GW_NO_MEMORY = 5
};

enum gw_task { GW_LANGUAGE_MODEL, GW_TAGGER, GW_TEXT_CLASSIFIER, GW_CLASSIFIER, GW_REGRESSOR };
enum gw_cell { GW_LSTM, GW_GRU, GW_RNN_TANH, GW_RNN_RELU };
enum gw_weights { GW_FP32, GW_BF16, GW_INT8 };
enum gw_level { GW_WORD, GW_CHARACTER, GW_PROSE };

typedef struct gw_model gw_model;
typedef struct gw_state gw_state;

typedef struct gw_error {
    int32_t code;
    char message[508]; /* one line, closed by a zero */
} gw_error;

typedef struct gw_text {
    const char* data;
    size_t size;
} gw_text;

typedef struct gw_options {
    size_t size;     /* sizeof(gw_options) */
    int32_t threads; /* the most threads of a call, the calling one included; 0 counts as 1 */
} gw_options;

typedef struct gw_info {
    size_t size; /* sizeof(gw_info) */
    int32_t task, cell, weights;
    int32_t level;   /* how gw_encode splits text */
    int32_t streams; /* whether gw_step applies: one direction, and no input relative to the last one */
    int32_t crf;     /* whether the tags of a sentence are chosen together */
    int64_t inputs;  /* I, of a classifier or regressor; else 0 */
    int64_t layers, directions, hidden;
    int64_t outputs; /* of a step: V, C, or the horizon of a regressor */
    int64_t traced;  /* the arrays of gw_trace: LSTM i f g o c h; GRU r z n h; RNN h */
    int64_t tokens, labels;
    int64_t eos, bos, unk; /* ids, or -1: the token that ends a line, that starts a sentence, that is not known */
    int64_t window;        /* the steps that a forecaster reads; else 0 */
} gw_info;

/* GW_ABI of the library. */
GW_API int32_t gw_version(void);

/* Open a model file; close it with gw_close. The file is checked before it is believed, and is not needed later.
 * options: NULL for one thread. GW_MODEL if the file is missing, damaged, of a newer format, or holds a number that is
 * not finite. */
GW_API int32_t gw_open(const char* path, const gw_options* options, gw_model** model, gw_error* error);

/* The same for the content of a model file, which is not needed after the call. */
GW_API int32_t gw_open_memory(const void* data, size_t size, const gw_options* options, gw_model** model,
                              gw_error* error);

/* Free a model, or do nothing with NULL. */
GW_API void gw_close(gw_model* model);

/* Fill what fits into info->size bytes. */
GW_API int32_t gw_describe(const gw_model* model, gw_info* info, gw_error* error);

/* A text of the model, valid until it is closed: the token or the label with an index, or (index 0) the JSON that
 * describes the model. {NULL, 0} where there is none. */
enum gw_kind { GW_TOKEN, GW_LABEL, GW_JSON };
GW_API gw_text gw_name(const gw_model* model, int32_t kind, int64_t index);

/* Encode text for a language model: its words, separated by white space, or with GW_CHARACTER its characters. A line
 * feed gives <eos>. What is not in the vocabulary gives <unk>. With GW_PROSE, text must have been split into tokens.
 * ids: room for `capacity`; count: how many ids the text has, of which no more than `capacity` are written. */
GW_API int32_t gw_encode(const gw_model* model, gw_text text, int64_t* ids, size_t capacity, size_t* count,
                         gw_error* error);

/* Make the state before the first step, of one row: zeros. Free it with gw_state_free, which does nothing with NULL. */
GW_API int32_t gw_state_new(const gw_model* model, gw_state** state, gw_error* error);
GW_API int32_t gw_state_copy(const gw_state* state, gw_state** copy, gw_error* error);
GW_API void gw_state_free(gw_state* state);

/* Write a state as a safetensors file that names its model. size: the bytes it takes; nothing is written where
 * `capacity` is less. */
GW_API int32_t gw_state_save(const gw_state* state, void* data, size_t capacity, size_t* size, gw_error* error);

/* Make a state of what gw_state_save wrote. GW_DATA if it is damaged, not finite, or of another model. */
GW_API int32_t gw_state_load(const gw_model* model, const void* data, size_t size, gw_state** state, gw_error* error);

/* Read one input of each of B rows (B is `rows`), and change their states, which must be different ones.
 *
 * inputs, of every function:   language model      int64_t[B]     ids
 *                              tagger, text class. gw_text[B]     words
 *                              classifier, regr.   double[B][I]   numbers, in the units of the training data
 * outputs (B, info.outputs):   language model      float   logits of the next token
 *                              tagger              float   scores of the tags
 *                              classifiers         float   logits, after all that the state has read
 *                              regressor           double  in the units of the training data
 */
GW_API int32_t gw_step(const gw_model* model, int64_t rows, const void* inputs, gw_state* const* states, void* outputs,
                       gw_error* error);

/* The outputs of B states, which must be different ones and do not change: those that gw_step gave, or would have given,
 * after the last input of each. A state that has read nothing answers from zeros; GW_DATA if the model pools. */
GW_API int32_t gw_outputs(const gw_model* model, int64_t rows, gw_state* const* states, void* outputs, gw_error* error);

/* Read whole sequences. lengths: the inputs of each row, at least 1; inputs: those of all rows, one after the other.
 * states: NULL to start from zeros, which models that do not stream require.
 * outputs: as those of gw_step, of each row after its last input; of each input where `over_time` is not 0, and always
 * of a tagger. May be NULL to read alone. */
GW_API int32_t gw_run(const gw_model* model, int64_t rows, const int64_t* lengths, const void* inputs,
                      gw_state* const* states, int32_t over_time, void* outputs, gw_error* error);

/* Score ids with a language model. nll[r] is -sum over t >= 1 of log p(id t of row r | those before), in nats: the first
 * id is read only, the last is scored only. states: NULL to start from zeros. */
GW_API int32_t gw_score(const gw_model* model, int64_t rows, const int64_t* lengths, const int64_t* ids,
                        gw_state* const* states, double* nll, gw_error* error);

/* Tag sentences: the best label of each word or, with a CRF, the best sequence of labels. labels: one for each word. */
GW_API int32_t gw_tag(const gw_model* model, int64_t rows, const int64_t* lengths, const gw_text* words,
                      int64_t* labels, gw_error* error);

/* The probability of each label for each word, (words, C): with a CRF, its marginals, summed over all labels of the
 * other words. */
GW_API int32_t gw_tag_probabilities(const gw_model* model, int64_t rows, const int64_t* lengths, const gw_text* words,
                                    double* probabilities, gw_error* error);

/* One step of one row that also shows what is inside. trace (L, info.traced, H): see gw_info. */
GW_API int32_t gw_trace(const gw_model* model, const void* input, gw_state* state, float* trace, void* outputs,
                        gw_error* error);

#ifdef __cplusplus
}
#endif
#endif
