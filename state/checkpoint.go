package state

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/state/journal"
)

// checkpointing returns the update of r if it may send checkpoints now.
func (s *Server) checkpointing(r *http.Request) (update, error) {
	u, now, err := s.leased(r)
	if err != nil {
		return update{}, err
	}
	if err := u.recordable(now); err != nil {
		return update{}, err
	}
	if u.journaled {
		return update{}, errs.Errorf(errs.Conflict, "this update sends a journal: it was started with one")
	}
	return u, nil
}

// checkpoint takes a whole deployment, which replaces the one before.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) error {
	u, err := s.checkpointing(r)
	if err != nil {
		return err
	}
	var body struct {
		IsInvalid  bool           `json:"isInvalid"`
		Version    int            `json:"version"`
		Features   []string       `json:"features"`
		Deployment jsontext.Value `json:"deployment"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Large, &body); err != nil {
		return err
	}
	if body.IsInvalid {
		return errs.Errorf(errs.Invalid, "a checkpoint cannot be marked as invalid any more, use a newer pulumi command")
	}
	if len(body.Deployment) == 0 {
		return errs.Errorf(errs.Invalid, "the checkpoint has no deployment")
	}
	raw, err := httpapi.Marshal(struct {
		Version    int            `json:"version"`
		Features   []string       `json:"features,omitempty"`
		Deployment jsontext.Value `json:"deployment"`
	}{body.Version, body.Features, jsontext.Value("null")})
	if err != nil {
		return err
	}
	// The deployment is spliced in as it came: encoding it would change its bytes.
	raw = append(raw[:len(raw)-len("null}")], body.Deployment...)
	return s.storeCheckpoint(w, r, u, append(raw, '}'), 0)
}

// checkpointVerbatim takes a whole untyped deployment whose bytes later deltas are
// against.
func (s *Server) checkpointVerbatim(w http.ResponseWriter, r *http.Request) error {
	u, err := s.checkpointing(r)
	if err != nil {
		return err
	}
	var body struct {
		UntypedDeployment jsontext.Value `json:"untypedDeployment"`
		SequenceNumber    int64          `json:"sequenceNumber"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Large, &body); err != nil {
		return err
	}
	if body.SequenceNumber < 1 {
		return errs.Errorf(errs.Invalid, "the sequence numbers of checkpoints start at 1")
	}
	if len(body.UntypedDeployment) == 0 {
		return errs.Errorf(errs.Invalid, "the checkpoint has no deployment")
	}
	return s.storeCheckpoint(w, r, u, body.UntypedDeployment, body.SequenceNumber)
}

// checkpointDelta takes the difference to the checkpoint before. Clients answer any
// refusal by sending the whole one under the same number.
func (s *Server) checkpointDelta(w http.ResponseWriter, r *http.Request) error {
	u, err := s.checkpointing(r)
	if err != nil {
		return err
	}
	var body struct {
		CheckpointHash  string `json:"checkpointHash"`
		SequenceNumber  int64  `json:"sequenceNumber"`
		DeploymentDelta []edit `json:"deploymentDelta"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Large, &body); err != nil {
		return err
	}
	if body.SequenceNumber < 1 {
		return errs.Errorf(errs.Invalid, "the sequence numbers of checkpoints start at 1")
	}
	if body.SequenceNumber <= u.checkpointSequence {
		return noContent(w) // a repetition
	}
	if u.checkpoint == "" {
		return errs.Errorf(errs.Unprocessable, "there is no checkpoint to apply the delta to, send a whole one")
	}
	base, err := s.deployments.read(r.Context(), u.checkpoint)
	if err != nil {
		// Superseded and removed since it was looked up, or lost: a whole one helps in both cases.
		return errs.Wrap(errs.Unprocessable, err, "the checkpoint that the delta is against is not there, send a whole one")
	}
	next, err := applyEdits(base, body.DeploymentDelta)
	if err != nil {
		return err
	}
	if hashOf(next) != body.CheckpointHash {
		return errs.Errorf(errs.Unprocessable, "the delta does not lead to the checkpoint that its hash names, send a whole one")
	}
	return s.storeCheckpoint(w, r, u, next, body.SequenceNumber)
}

// storeCheckpoint makes raw the newest checkpoint of a running update. Numbered ones
// (sequence above 0) never replace one with the same or a higher number: a client that
// has lost an answer may repeat an old one.
func (s *Server) storeCheckpoint(w http.ResponseWriter, r *http.Request, u update, raw []byte, sequence int64) error {
	ctx := r.Context()
	if err := checkDeployment(raw); err != nil {
		return err
	}
	if sequence > 0 && sequence <= u.checkpointSequence {
		return noContent(w)
	}
	key, err := s.deployments.putRunning(ctx, u, raw)
	if err != nil {
		return err
	}
	now, err := s.clock.now(ctx)
	if err != nil {
		return err
	}
	unused := "" // the one of the two checkpoints that nothing points to afterwards
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		unused = key
		u, err := s.store.lockUpdate(ctx, u.id)
		if err != nil {
			return err
		}
		if err := u.recordable(now); err != nil {
			return err
		}
		if sequence > 0 && sequence <= u.checkpointSequence {
			return nil
		}
		unused, u.checkpoint = u.checkpoint, key
		u.checkpointSequence = max(u.checkpointSequence, sequence)
		return s.store.saveUpdate(ctx, u)
	})
	// After a failure to commit the old one may still be the one that counts. What stays
	// behind goes with the update's other checkpoints.
	if unused != "" && (err == nil || unused == key) {
		_ = s.deployments.bucket.Delete(ctx, unused)
	}
	if err != nil {
		return err
	}
	return noContent(w)
}

// runningPrefix is where the checkpoints of a running update are.
func runningPrefix(u update) string { return stackPrefix(u.stackID) + "updates/" + u.id + "/" }

// The schema versions of deployments that clients can read.
const (
	oldestSchema = 1
	newestSchema = 4
)

// checkDeployment refuses what no client could read back.
func checkDeployment(raw []byte) error {
	var untyped struct {
		Version    int            `json:"version"`
		Deployment jsontext.Value `json:"deployment"`
	}
	if err := json.Unmarshal(raw, &untyped); err != nil {
		return errs.Wrap(errs.Invalid, err, "the deployment is not JSON of the form {\"version\":…,\"deployment\":{…}}")
	}
	if untyped.Version < oldestSchema || untyped.Version > newestSchema {
		return errs.Errorf(errs.Invalid, "the deployment has schema version %d, this service takes %d to %d", untyped.Version, oldestSchema, newestSchema)
	}
	if kind := untyped.Deployment.Kind(); kind != '{' && kind != 'n' {
		return errs.Errorf(errs.Invalid, "the deployment has no member \"deployment\" that is an object")
	}
	// What is acknowledged has to be readable when the update ends.
	_, err := journal.ResourceCount(raw)
	return err
}
