package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// replay sends recorded calls and keeps what the recording's names are here: update
// IDs, lease tokens, ciphertexts, and places in a stack's list of resources.
type replay struct {
	*instance
	ours     map[string]string // by the recorded name
	recorded map[string]string // the other way
	forward  *strings.Replacer
	backward *strings.Replacer

	plain   map[string]string // by recorded ciphertext, what is in it
	waiting map[string]string // by stack, the recorded update that has not read its base yet
	updates map[string]bases  // by recorded update, what it started from
	dry     map[string]bool   // by recorded update
	version map[string]int    // by stack
	sent    map[string]string // by recorded update, the last verbatim checkpoint as sent

	verbatim map[checkpointKey]string // what is going to be sent, as recorded
}

// bases are a stack's resources as recorded and as here.
type bases struct{ recorded, ours []resource }

type resource struct {
	URN    string `json:"urn"`
	ID     string `json:"id"`
	Delete bool   `json:"delete"`
}

func newReplay(t *testing.T) *replay {
	r := &replay{
		instance: openInstance(t, "alice"), ours: map[string]string{}, recorded: map[string]string{},
		plain: map[string]string{}, waiting: map[string]string{}, updates: map[string]bases{}, dry: map[string]bool{},
		version: map[string]int{}, sent: map[string]string{}, verbatim: map[checkpointKey]string{},
	}
	r.name(recordedToken, r.token)
	return r
}

// name notes that what the recording calls recorded is ours here.
func (r *replay) name(recorded, ours string) {
	if recorded == "" || ours == "" || r.ours[recorded] == ours {
		return
	}
	r.ours[recorded], r.recorded[ours] = ours, recorded
	r.forward, r.backward = nil, nil
}

func replacer(pairs map[string]string) *strings.Replacer {
	list := make([]string, 0, 2*len(pairs))
	for from, to := range pairs {
		list = append(list, from, to)
	}
	return strings.NewReplacer(list...)
}

func (r *replay) ourNames(text string) string {
	if r.forward == nil {
		r.forward = replacer(r.ours)
	}
	return r.forward.Replace(text)
}

func (r *replay) recordedNames(text string) string {
	if r.backward == nil {
		r.backward = replacer(r.recorded)
	}
	return r.backward.Replace(text)
}

var stackPath = regexp.MustCompile(`^/api/stacks/([^/]+/[^/]+/[^/]+)(?:/(.*))?$`)

// stack returns the stack that a call is about, and the rest of its path.
func (x exchange) stack() (stack, rest string) {
	if m := stackPath.FindStringSubmatch(x.Path); m != nil {
		return m[1], m[2]
	}
	return "", ""
}

// update returns the recorded ID of the update that a call is about, and the call.
func (x exchange) update() (id, call string) {
	_, rest := x.stack()
	rest, ok := strings.CutPrefix(rest, "update/")
	if !ok {
		return "", ""
	}
	id, call, _ = strings.Cut(rest, "/")
	return id, call
}

// send makes the call here.
func (r *replay) send(t *testing.T, x exchange) *httptest.ResponseRecorder {
	t.Helper()
	target := r.ourNames(x.Path)
	if x.Query != "" {
		target += "?" + x.Query
	}
	body := r.body(t, x)
	compressed := slices.Contains(x.Header["Content-Encoding"], "gzip")
	if compressed {
		var b bytes.Buffer
		zw := gzip.NewWriter(&b)
		_, _ = zw.Write([]byte(body))
		_ = zw.Close()
		body = b.String()
	}
	request := httptest.NewRequest(x.Method, target, strings.NewReader(body))
	request.Host = "127.0.0.1:8080"
	for name, values := range x.Header {
		for _, value := range values {
			if name != "Content-Length" {
				request.Header.Add(name, r.ourNames(value))
			}
		}
	}
	return r.answer(request)
}

// body returns the body that the client would have sent here.
func (r *replay) body(t *testing.T, x exchange) string {
	t.Helper()
	if len(x.Body) == 0 || x.Body.Kind() == 'n' {
		return ""
	}
	if x.Body.Kind() == '"' { // a form
		var text string
		if err := json.Unmarshal(x.Body, &text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	raw := []byte(x.Body)
	switch id, call := x.update(); call {
	case "journalentries":
		raw = r.updates[id].journal(t, x, raw)
	case "checkpointverbatim":
		_, text := x.checkpoint()
		r.sent[id] = r.ourNames(text)
	case "checkpointdelta":
		return r.delta(t, x, raw)
	}
	return r.ourNames(string(raw))
}

// journal rewrites a batch of journal entries for a base that holds the resources in
// another order, or more of them: the numbers in it are places in the base.
func (b bases) journal(t *testing.T, x exchange, raw []byte) []byte {
	t.Helper()
	if slices.Equal(b.recorded, b.ours) {
		return raw
	}
	var body struct {
		Entries []map[string]any `json:"entries"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatal(err)
	}
	for _, entry := range body.Entries {
		for _, field := range []string{"removeOld", "deleteOld", "pendingReplacementOld"} {
			if place, ok := entry[field].(float64); ok {
				entry[field] = b.place(t, x, int(place))
			}
		}
		b.replaceKept(entry)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (b bases) place(t *testing.T, x exchange, recorded int) any {
	t.Helper()
	if recorded >= len(b.recorded) {
		t.Errorf("%s: there is no resource %d in the recorded base", x, recorded)
		return nil
	}
	wanted := b.recorded[recorded]
	i := slices.Index(b.ours, wanted)
	if i < 0 {
		i = slices.IndexFunc(b.ours, func(r resource) bool { return r.URN == wanted.URN && r.Delete == wanted.Delete })
	}
	if i < 0 {
		t.Errorf("%s: our base lacks %s, which the recorded one has", x, wanted.URN)
		return nil
	}
	return i
}

// replaceKept turns the creation of a resource which the recorded server had lost, and
// which this one has kept, into what the client does when it knows it: the resource
// takes the place of the kept one.
func (b bases) replaceKept(entry map[string]any) {
	state, ok := entry["state"].(map[string]any)
	if !ok || entry["kind"] != float64(1) || entry["removeOld"] != nil {
		return
	}
	same := func(r resource) bool { return r.URN == state["urn"] && !r.Delete }
	if slices.ContainsFunc(b.recorded, same) {
		return
	}
	if i := slices.IndexFunc(b.ours, same); i >= 0 {
		entry["removeOld"] = i
	}
}

// delta rewrites a delta for texts whose ciphertexts have another length: one edit
// that exchanges everything. What the recorded one came to is in the verbatim
// checkpoint that the client sent after its refusal.
func (r *replay) delta(t *testing.T, x exchange, raw []byte) string {
	t.Helper()
	var body struct {
		Version  int `json:"version"`
		Sequence int `json:"sequenceNumber"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Fatal(err)
	}
	id, _ := x.update()
	before, after := r.sent[id], r.ourNames(r.verbatim[checkpointKey{id, body.Sequence}])
	if before == "" || after == "" {
		t.Fatalf("%s: no verbatim checkpoint before, or none after", x)
	}
	quoted, err := json.Marshal(after)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"version":%d,"checkpointHash":"%x","sequenceNumber":%d,"deploymentDelta":[{"Span":{"uri":"","start":{"line":1,"column":1,"offset":0},"end":{"line":1,"column":1,"offset":%d}},"NewText":%s}]}`,
		body.Version, sha256.Sum256([]byte(after)), body.Sequence, len(before), quoted)
}

type checkpointKey struct {
	update   string
	sequence int
}

// checkpoint returns the deployment of a verbatim checkpoint.
func (x exchange) checkpoint() (checkpointKey, string) {
	id, call := x.update()
	var body struct {
		Deployment jsontext.Value `json:"untypedDeployment"`
		Sequence   int            `json:"sequenceNumber"`
	}
	if call == "checkpointverbatim" {
		_ = json.Unmarshal(x.Body, &body) // an empty one is noticed by whoever needs it
	}
	return checkpointKey{id, body.Sequence}, string(body.Deployment)
}

// learn takes the names that a call has made from its two answers.
func (r *replay) learn(t *testing.T, x exchange, status int, answer []byte) {
	t.Helper()
	if status >= 300 {
		return
	}
	var recorded, ours answerNames
	_ = json.Unmarshal(x.Answer, &recorded) // null, a text or an error has no names
	_ = json.Unmarshal(answer, &ours)
	var asked askedNames
	_ = json.Unmarshal(x.Body, &asked)
	stack, rest := x.stack()
	id, call := x.update()
	switch {
	case rest == "rename":
		renamed := stack[:strings.LastIndex(stack, "/")+1] + asked.NewName
		r.version[renamed] = r.version[stack] + 1
		delete(r.version, stack)
	case x.Status >= 300 || x.Injected:
	case rest == "encrypt":
		r.name(recorded.Ciphertext, ours.Ciphertext)
		r.plain[recorded.Ciphertext] = asked.Plaintext
	case rest == "batch-encrypt":
		for i := range min(len(recorded.Ciphertexts), len(ours.Ciphertexts)) {
			r.name(recorded.Ciphertexts[i], ours.Ciphertexts[i])
			r.plain[recorded.Ciphertexts[i]] = asked.Plaintexts[i]
		}
	case x.Method == "POST" && slices.Contains([]string{"update", "preview", "refresh", "destroy"}, rest):
		r.name(recorded.UpdateID, ours.UpdateID)
		r.dry[recorded.UpdateID] = rest == "preview" || asked.Options.DryRun
	case rest == "import":
		r.name(recorded.Import, ours.Import)
		r.version[stack]++
	case x.Method == "DELETE" && stack != "" && rest == "":
		delete(r.version, stack)
	case rest == "export":
		if id, ok := r.waiting[stack]; ok { // the client reads its base right after the start
			r.updates[id] = bases{resources(x.Answer), resources([]byte(r.recordedNames(string(answer))))}
			delete(r.waiting, stack)
		}
	case x.Method == "POST" && id != "" && call == "":
		r.started(t, x, recorded, ours)
	case call == "renew_lease":
		r.name(recorded.Token, ours.Token)
	}
}

// started checks and keeps what a start has answered: a preview takes no version, and
// anything else the next one.
func (r *replay) started(t *testing.T, x exchange, recorded, ours answerNames) {
	t.Helper()
	stack, _ := x.stack()
	id, _ := x.update()
	if !r.dry[id] {
		r.version[stack]++
		r.waiting[stack] = id
	}
	if ours.Version != r.version[stack] {
		t.Errorf("%s: the start answers version %d, want %d", x, ours.Version, r.version[stack])
	}
	r.name(recorded.Token, ours.Token)
}

func resources(export []byte) []resource {
	var body struct {
		Deployment struct {
			Resources []resource `json:"resources"`
		} `json:"deployment"`
	}
	_ = json.Unmarshal(export, &body) // some recorded answers are broken on purpose
	return body.Deployment.Resources
}

// readable returns an export with what is in its ciphertexts in their place: that,
// and not the bytes, is what has to survive.
func (r *replay) readable(x exchange, text string) string {
	if _, rest := x.stack(); rest != "export" {
		return text
	}
	return replacer(r.plain).Replace(text)
}

type askedNames struct {
	Plaintext  string   `json:"plaintext"`
	Plaintexts []string `json:"plaintexts"`
	NewName    string   `json:"newName"`
	Options    struct {
		DryRun bool `json:"dryRun"`
	} `json:"options"`
}

type answerNames struct {
	Ciphertext  string   `json:"ciphertext"`
	Ciphertexts []string `json:"ciphertexts"`
	UpdateID    string   `json:"updateID"`
	Import      string   `json:"updateId"`
	Token       string   `json:"token"`
	Version     int      `json:"version"`
}
