package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// witness is a reverse proxy that notes which journal entries of an update the client
// has sent, and which of them the server has acknowledged.
type witness struct {
	url string

	mu      sync.Mutex
	base    []string // resources before the update
	started bool
	sent    map[int]journalEntry // by sequence
	known   map[int]journalEntry // the acknowledged ones
}

type journalEntry struct {
	Kind      int  `json:"kind"`
	Sequence  int  `json:"sequenceID"`
	Operation int  `json:"operationID"`
	RemoveOld *int `json:"removeOld"`
	RemoveNew *int `json:"removeNew"`
	State     *struct {
		URN string `json:"urn"`
	} `json:"state"`
}

const entrySuccess = 1

var startPath = regexp.MustCompile(`/update/[0-9a-f-]{36}$`)

func newWitness(t *testing.T, address string) *witness {
	w := &witness{}
	target := &url.URL{Scheme: "http", Host: address}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(response *http.Response) error {
			w.note(response.Request, response.StatusCode)
			return nil
		},
		// To the client a dead server is a connection that breaks.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r = r.WithContext(withBody(r.Context(), body))
		w.note(r, 0)
		proxy.ServeHTTP(rw, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// begin forgets the last update and takes the export that the next one starts from.
func (w *witness) begin(export []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.base, _ = urns(export)
	w.started, w.sent, w.known = false, map[int]journalEntry{}, map[int]journalEntry{}
}

// note takes down a call before it goes to the server, with status 0, and when it has
// been answered.
func (w *witness) note(r *http.Request, status int) {
	ok := status >= 200 && status < 300
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok && r.Method == http.MethodPost && startPath.MatchString(r.URL.Path) {
		w.started = true
	}
	if r.Method != http.MethodPatch || !strings.HasSuffix(r.URL.Path, "/journalentries") || status != 0 && !ok {
		return
	}
	body := bodyOf(r.Context())
	if r.Header.Get("Content-Encoding") == "gzip" {
		if zr, err := gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, _ = io.ReadAll(zr)
		}
	}
	var batch struct {
		Entries []journalEntry `json:"entries"`
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		panic(err)
	}
	for _, e := range batch.Entries {
		if w.sent[e.Sequence] = e; ok {
			w.known[e.Sequence] = e
		}
	}
}

// waitForStart returns once the update has been started, or at the deadline.
func (w *witness) waitForStart(deadline time.Time) {
	for time.Now().Before(deadline) {
		w.mu.Lock()
		started := w.started
		w.mu.Unlock()
		if started {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (w *witness) acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.known)
}

// check returns what is missing in, or wrongly part of, the state after the update.
// What was sent and not acknowledged may have arrived or not.
func (w *witness) check(export []byte) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list, err := urns(export)
	var problems []string
	if err != nil {
		problems = append(problems, err.Error())
	}
	mustHave, _ := w.outcome(w.known, w.sent)
	mayHave, removed := w.outcome(w.sent, w.known)
	for urn := range mustHave {
		if !slices.Contains(list, urn) {
			problems = append(problems, urn+" was acknowledged and is lost")
		}
	}
	for _, urn := range list {
		if !mayHave[urn] {
			problems = append(problems, fmt.Sprintf("%s is there, although nobody said so (removed: %t)", urn, removed[urn]))
		}
	}
	slices.Sort(problems)
	return problems
}

// outcome returns the resources that there are when the states of some entries, and
// the removals of others, take effect, and those that the removals take away.
func (w *witness) outcome(states, removals map[int]journalEntry) (present, removed map[string]bool) {
	made := map[int]string{} // by operation
	for _, e := range w.sent {
		if e.Kind == entrySuccess && e.State != nil {
			made[e.Operation] = e.State.URN
		}
	}
	present, removed = map[string]bool{}, map[string]bool{}
	for _, e := range removals {
		if e.Kind != entrySuccess {
			continue
		}
		if e.RemoveOld != nil && *e.RemoveOld < len(w.base) && (e.State == nil || e.State.URN != w.base[*e.RemoveOld]) {
			removed[w.base[*e.RemoveOld]] = true
		}
		if e.RemoveNew != nil {
			removed[made[*e.RemoveNew]] = true
		}
	}
	for _, urn := range w.base {
		if !removed[urn] {
			present[urn] = true
		}
	}
	for _, e := range states {
		if e.Kind == entrySuccess && e.State != nil {
			present[e.State.URN] = true
		}
	}
	return present, removed
}

type bodyKey struct{}

func withBody(ctx context.Context, body []byte) context.Context {
	return context.WithValue(ctx, bodyKey{}, body)
}

func bodyOf(ctx context.Context) []byte {
	body, _ := ctx.Value(bodyKey{}).([]byte)
	return body
}
