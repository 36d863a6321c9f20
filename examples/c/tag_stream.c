/* Tag words as they arrive.
 *
 *     tag_stream MODEL < WORDS
 *
 * MODEL is a file that `gatewise export RUN --to runtime` wrote, of a tagger that reads in one direction. Standard input
 * has one word a line and an empty line after each sentence; each line is answered at once by the word, a tab and its
 * tag.
 */
#include <gatewise.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_error error;

/* End with the library's message if a call failed. */
static void check(int32_t code) {
    if (code == GW_OK) return;
    fprintf(stderr, "tag_stream: %s\n", error.message);
    exit(code);
}

static void stop(int32_t code, const char* message) {
    fprintf(stderr, "tag_stream: %s\n", message);
    exit(code);
}

int main(int count, char** arguments) {
    static char line[4096];
    gw_model* model;
    gw_state* state;
    gw_info info = {0};
    float* scores;

    if (count != 2) stop(GW_USAGE, "expected MODEL, and words on standard input");
    check(gw_open(arguments[1], NULL, &model, &error));
    info.size = sizeof info;
    check(gw_describe(model, &info, &error));
    if (info.task != GW_TAGGER) stop(GW_USAGE, "this model is not a tagger");
    if (info.crf) stop(GW_USAGE, "this tagger has a CRF, which needs whole sentences; train one without");
    scores = malloc((size_t)info.outputs * sizeof *scores);
    if (!scores) stop(GW_NO_MEMORY, "out of memory");

    /* Fails, with the reason, if the model reads in both directions. */
    check(gw_state_new(model, &state, &error));
    while (fgets(line, sizeof line, stdin)) {
        gw_text word, tag;
        int64_t best = 0, k;
        if (!strchr(line, '\n') && !feof(stdin)) stop(GW_DATA, "a line is too long; expected less than 4096 bytes");
        word.data = line, word.size = strcspn(line, "\r\n");
        if (word.size == 0) { /* the next sentence starts from the first state */
            gw_state_free(state);
            check(gw_state_new(model, &state, &error));
            printf("\n");
        } else {
            check(gw_step(model, 1, &word, &state, scores, &error));
            for (k = 1; k < info.outputs; ++k) {
                if (scores[k] > scores[best]) best = k;
            }
            tag = gw_name(model, GW_LABEL, best);
            printf("%.*s\t%.*s\n", (int)word.size, word.data, (int)tag.size, tag.data);
        }
        fflush(stdout);
    }
    if (ferror(stdin)) stop(GW_DATA, "cannot read standard input");

    free(scores);
    gw_state_free(state);
    gw_close(model);
    return 0;
}
