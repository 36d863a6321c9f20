/* Continue a text with a language model.
 *
 *     generate MODEL PROMPT COUNT [TEMPERATURE [SEED]]
 *
 * MODEL is a file that `gatewise export RUN --to runtime` wrote; PROMPT is one line, which may be empty; COUNT is the
 * number of tokens. Temperature 0, the default, takes the most probable token.
 */
#include <gatewise.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_error error;

/* End with the library's message if a call failed. */
static void check(int32_t code) {
    if (code == GW_OK) return;
    fprintf(stderr, "generate: %s\n", error.message);
    exit(code);
}

static void stop(const char* message) {
    fprintf(stderr, "generate: %s\n", message);
    exit(GW_USAGE);
}

/* A number of the command line, the whole argument. */
static double number(const char* text, double least, const char* message) {
    char* end;
    const double x = strtod(text, &end);
    if (end == text || *end || !(x >= least) || x > 1e9) stop(message);
    return x;
}

/* A pseudorandom number from 0 up to 1 (SplitMix64). */
static double uniform(uint64_t* seed) {
    uint64_t z = (*seed += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

/* Choose one of V tokens: the most probable, or one drawn from softmax(logits / temperature). Never `bos`. */
static int64_t choose(float* logits, int64_t V, int64_t bos, double temperature, uint64_t* seed) {
    int64_t best = 0, id;
    double sum = 0, left;
    if (bos >= 0) logits[bos] = -INFINITY;
    for (id = 1; id < V; ++id) {
        if (logits[id] > logits[best]) best = id;
    }
    if (temperature == 0) return best;
    for (id = 0; id < V; ++id) sum += exp(((double)logits[id] - logits[best]) / temperature);
    left = uniform(seed) * sum;
    for (id = 0; id < V - 1; ++id) {
        left -= exp(((double)logits[id] - logits[best]) / temperature);
        if (left < 0) break;
    }
    return id;
}

int main(int count, char** arguments) {
    gw_model* model;
    gw_state* state;
    gw_info info = {0};
    gw_text prompt;
    int64_t *ids, length, id, k, tokens;
    size_t size;
    float* logits;
    double temperature;
    uint64_t seed;

    if (count < 4 || count > 6) stop("expected MODEL PROMPT COUNT [TEMPERATURE [SEED]]");
    tokens = (int64_t)number(arguments[3], 1, "COUNT is not a positive number");
    temperature = count > 4 ? number(arguments[4], 0, "TEMPERATURE is not a number of 0 or more") : 0;
    seed = count > 5 ? (uint64_t)number(arguments[5], 0, "SEED is not a number of 0 or more") : 0;

    check(gw_open(arguments[1], NULL, &model, &error));
    info.size = sizeof info;
    check(gw_describe(model, &info, &error));
    if (info.task != GW_LANGUAGE_MODEL) stop("this model is not a language model");

    /* The ids of the prompt, after the token that a text or, in a model of sentences, a sentence starts with. */
    prompt.data = arguments[2], prompt.size = strlen(prompt.data);
    check(gw_encode(model, prompt, NULL, 0, &size, &error));
    ids = malloc((size + 1) * sizeof *ids);
    logits = malloc((size_t)info.outputs * sizeof *logits);
    if (!ids || !logits) stop("out of memory");
    ids[0] = info.bos >= 0 ? info.bos : info.eos;
    check(gw_encode(model, prompt, ids + 1, size, &size, &error));

    /* Read them at once: the logits are those of the token after the last. */
    length = (int64_t)size + 1;
    check(gw_state_new(model, &state, &error));
    check(gw_run(model, 1, &length, ids, &state, 0, logits, &error));
    printf("%s", prompt.data);

    for (k = 0; k < tokens; ++k) {
        id = choose(logits, info.outputs, info.bos, temperature, &seed);
        if (id == info.eos) {
            printf("\n");
        } else {
            const gw_text token = gw_name(model, GW_TOKEN, id);
            printf("%s%.*s", info.level == GW_CHARACTER ? "" : " ", (int)token.size, token.data);
        }
        fflush(stdout);
        if (id == info.eos && info.bos >= 0) { /* the next sentence knows nothing of this one */
            gw_state_free(state);
            check(gw_state_new(model, &state, &error));
            id = info.bos;
        }
        check(gw_step(model, 1, &id, &state, logits, &error));
    }
    printf("\n");

    free(logits);
    free(ids);
    gw_state_free(state);
    gw_close(model);
    return 0;
}
