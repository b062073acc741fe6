package storetest

// needs lists what a table must have for a case of the suite to be run: the columns
// that it compares; runs without a user ("guests"); words for the statuses that it
// gives a run, and for such that mean nothing ("other words"); times that tell
// microseconds apart; and columns by which a run is known to be alive, whether it was
// heard of or only begun.
var needs = map[string][]string{
	"a run begins pending, starts, ends, and counts once it has ended":                     {"started_at", "duration_ms", "pending"},
	"law 2: of many completions at once exactly one wins":                                  {"cancelled", "timeout"},
	"an outcome keeps what came with it":                                                   {"duration_ms", "error_details", "state_snapshot"},
	"an id or idempotency key of another key's run is a conflict":                          {"draft_id"},
	"a limit holds for counted and active runs together, and a failed start frees nothing": {"cancelled"},
	"an amendment overrides a real outcome and is not overridden":                          {"cancelled"},
	"case T33: an end that is not dated is never before what it ends":                      {"created_at", "started_at", "duration_ms", "pending"},
	"case T33: an end is after the re-opening, and what was dated up to it is not":         {"microseconds"},
	"case T34: of two amendments the later call has the last word, whatever its clock":     {"cancelled"},
	"a run that ends in the future is not re-opened, but can be amended":                   {"cancelled"},

	"a run that is heard of counts where it ended":                             {"pending"},
	"laws 4 and 5: what was applied before changes nothing and writes nothing": {"pending"},
	"law 5: a repair's own webhook, delivered back, ends after one round":      {"begun"},
	"a run with an unknown status, or without a key, is kept and not counted":  {"other words"},
	"many changes of many runs in one batch are answered each with its keys":   {"draft_id"},

	"a policy is applied on reading, without a recount":                                 {"begun", "cancelled", "timeout"},
	"the keys of a workflow and of a draft are counted apart":                           {"draft_id"},
	"a fold changes no count, and a second one finds nothing":                           {"cancelled"},
	"an audit finds every key that was spoiled, page by page, and a recount repairs it": {"draft_id"},
	"an audit sees a count without runs, and runs without a count":                      {"draft_id"},
	"a history tells what happened to a run, and how a count comes about":               {"begun", "pending", "cancelled"},

	"a total is what the users of a workflow or draft have together":              {"draft_id", "begun", "cancelled", "timeout"},
	"a total follows runs that change hands, and those that are deleted":          {"draft_id"},
	"an audit finds a total that was made wrong by hand, and adds the difference": {"draft_id"},

	"a window turns at a midnight to the microsecond, whatever zone names it":                 {"microseconds"},
	"a user's count has all their keys, drafts among them unless a kind is named":             {"draft_id"},
	"a run that is in no key is in no scope":                                                  {"guests"},
	"a run with an unknown status is in no window":                                            {"other words"},
	"a workflow and a draft have the runs of all their users in a window":                     {"draft_id"},
	"a window tells what of it is presumed, and its count follows the policy":                 {"begun", "cancelled", "timeout"},
	"a run that is handed over leaves each window of its user, and comes into the next one's": {"draft_id"},
	"an end that was presumed in one month is in the next where a real one supersedes it":     {"begun"},
	"an amendment takes a run out of its month, and a re-opened one ends in another":          {"cancelled"},
	"a user's limit has the runs of all keys together, drafts among them":                     {"draft_id"},
	"what counts against a limit in a window follows the policy":                              {"begun", "cancelled", "timeout"},
	"an allowance needs a limit and whose it is, and reserves nothing":                        {"draft_id"},
	"a begin that finds its run is no matter of limits":                                       {"cancelled"},
	"no run uses a grant up, and what has begun under one stays begun":                        {"pending", "cancelled"},

	"a run that is silent for longer than its limit is presumed failed, as of then":                            {"begun", "pending", "error_details"},
	"case D26: a run begun while the clock was ahead is silent from when it was first seen":                    {"alive", "pending"},
	"a batch is at most as large as asked, and the next goes on":                                               {"begun"},
	"case T23: suspects come page by page in the order of their ids, and those that are named are ended alone": {"begun", "pending"},
	"a limit is per status, and 0 means never":                                                                 {"begun", "pending"},
	"a presumed outcome gives way to a real one":                                                               {"begun"},

	"Lists/the counts of many keys are those of each, in their order":     {"cancelled", "timeout"},
	"Lists/every page size gives the same counts, ledger or not":          {"draft_id"},
	"Lists/the counts of a user are theirs, and those of nobody are none": {"draft_id"},
	"Lists/runs are listed by state, latest first, in pages":              {"alive", "pending", "other words"},
	"Lists/what was repaired, decided and recounted, latest first":        {"alive", "cancelled"},

	"the runs of a day are told by outcome, presumed ones apart, from midnight to midnight in UTC": {"draft_id", "begun", "alive", "cancelled", "timeout"},
	"the greatest counts are those of users, and of workflows over all users, under the policy":    {"draft_id", "cancelled", "timeout"},

	"case T1: a run without a user is nobody's, and no error":                                 {"guests"},
	"case T1: a run without a user is ended, presumed, superseded and amended like any other": {"guests", "alive", "cancelled"},
	"case T1: a presumed run that loses its user takes its mark along, and brings it back":    {"guests", "alive"},
	"case T20: a completion leaves what it does not say itself":                               {"duration_ms", "error_details"},
	"case T20: what a sweep wrote goes with the outcome that it presumed":                     {"started_at", "duration_ms", "error_details"},
	"case T20: a completion without a snapshot leaves the one that is there":                  {"state_snapshot"},
}
