package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/state/journal"
)

// addEntries stores journal entries: one indexed read, one transaction. Entries that
// are there already are fine, clients repeat batches whose answer was lost.
func (s *Server) addEntries(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	u, now, err := s.leased(r)
	if err != nil {
		return err
	}
	if err := u.recordable(now); err != nil {
		return err
	}
	if !u.journaled {
		return errs.Errorf(errs.Conflict, "this update sends checkpoints: it was started without a journal")
	}
	var body struct {
		Entries []jsontext.Value `json:"entries"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Medium, &body); err != nil {
		return err
	}
	rows := make([]entryRow, len(body.Entries))
	for i, raw := range body.Entries {
		entry, err := journal.Parse(raw)
		if err != nil {
			return err
		}
		rows[i] = entryRow{Sequence: entry.Sequence(), Content: raw}
	}
	if len(rows) == 0 {
		return noContent(w)
	}
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		// The lock keeps the update from being closed between this look and the commit:
		// an entry that is acknowledged is in the journal that is replayed.
		u, err := s.store.lockLease(ctx, u.id)
		if err != nil {
			return err
		}
		if err := u.recordable(now); err != nil {
			return err
		}
		return s.store.addEntries(ctx, u.id, rows)
	})
	if err != nil {
		return err
	}
	return noContent(w)
}

// sameEntry reports whether two journal entries say the same.
func sameEntry(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	one, err := journal.Parse(a)
	if err != nil {
		return false
	}
	other, err := journal.Parse(b)
	return err == nil && one.Equal(other)
}

// remains is what an update leaves behind.
type remains struct {
	deployment []byte
	hash       string // of the deployment, once it is stored
	resources  int64
	faulty     bool   // the update cannot have succeeded
	note       string // why, or what was lost
}

// remains computes the deployment that an update leaves from everything that it has
// sent. It changes nothing, and gives the same answer whenever it is asked again
// after the update has been closed.
func (s *Server) remains(ctx context.Context, u update) (remains, error) {
	base, err := s.deployments.get(ctx, u.stackID, u.base)
	if err != nil {
		return remains{}, err
	}
	left := remains{deployment: base}
	if u.checkpoint != "" {
		if left.deployment, err = s.deployments.read(ctx, u.checkpoint); err != nil {
			return remains{}, err
		}
	}
	if u.journaled {
		rows, err := s.store.entries(ctx, u.id)
		if err != nil {
			return remains{}, err
		}
		if len(rows) > 0 {
			return replayed(u, base, rows)
		}
	}
	count, err := journal.ResourceCount(left.deployment)
	left.resources = int64(count)
	return left, err
}

// replayed replays a journal. One that its client calls complete must be: a hole in it
// means that the state of some resource may have been lost on the way, so the update
// has failed, whatever the client believes. In that case and in those of an update
// that ended early, everything that can be used is.
func replayed(u update, base []byte, rows []entryRow) (remains, error) {
	entries := make([]journal.Entry, len(rows))
	for i, row := range rows {
		var err error
		if entries[i], err = journal.Parse(row.Content); err != nil {
			return remains{}, fmt.Errorf("journal entry %d of update %s: %w", row.Sequence, u.id, err)
		}
	}
	opts := journal.Options{EngineVersion: u.engineVersion(), Now: u.ended}
	if opts.Now.IsZero() {
		opts.Now = time.Now()
	}
	if u.outcome != succeeded {
		opts.Salvage = true
	}
	result, err := journal.Replay(base, entries, opts)
	left := remains{}
	switch {
	case err != nil && !opts.Salvage:
		left.faulty, left.note = true, journalProblem(err)
		opts.Salvage = true
		result, err = journal.Replay(base, entries, opts)
	case err == nil && result.Integrity != "":
		left.faulty, left.note = true, "the state that the update left is inconsistent: "+result.Integrity
	}
	if err != nil { // nothing can be used: the base stays
		count, countErr := journal.ResourceCount(base)
		return remains{deployment: base, resources: int64(count), faulty: true, note: joinNotes(left.note, journalProblem(err))}, countErr
	}
	if len(result.Skipped) > 0 {
		left.note = joinNotes(left.note, fmt.Sprintf("%d journal entries could not be applied (%s)", len(result.Skipped), result.Skipped[0]))
	}
	left.deployment, left.resources = result.Deployment, int64(result.ResourceCount)
	return left, nil
}

func journalProblem(err error) string {
	var gap *journal.Gap
	if errors.As(err, &gap) {
		return fmt.Sprintf("the journal has a gap: %d of %d entries are missing, the first is number %d; run pulumi refresh to compare the state with reality",
			gap.Count, gap.Last, gap.Missing)
	}
	if text := errs.Public(err); text != "" {
		return "the journal cannot be replayed: " + text
	}
	return "the journal cannot be replayed"
}

func joinNotes(notes ...string) string {
	var all []string
	for _, note := range notes {
		if note != "" {
			all = append(all, note)
		}
	}
	return strings.Join(all, "; ")
}

// engineVersion returns the version of the engine that runs u, as its client says.
func (u update) engineVersion() string {
	var environment map[string]string
	_ = json.Unmarshal(orObject(u.environment), &environment) // checked when it came in
	return environment["pulumi.version"]
}
