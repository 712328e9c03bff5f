package state

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// infoBody is an update as clients show it.
type infoBody struct {
	Kind            string         `json:"kind"`
	StartTime       int64          `json:"startTime"`
	Message         string         `json:"message"`
	Environment     jsontext.Value `json:"environment"`
	Config          jsontext.Value `json:"config"`
	Result          string         `json:"result"`
	EndTime         int64          `json:"endTime"`
	Version         int64          `json:"version"`
	ResourceChanges jsontext.Value `json:"resourceChanges"`
	ResourceCount   int64          `json:"resourceCount"`
}

// updateBody is an update with what the console needs to link it.
type updateBody struct {
	Info             infoBody   `json:"info"`
	UpdateID         string     `json:"updateID"`
	Version          int64      `json:"version"`
	LatestVersion    int64      `json:"latestVersion"`
	RequestedBy      personBody `json:"requestedBy"`
	RequestedByToken string     `json:"requestedByToken,omitempty"`
}

type personBody struct {
	Name        string `json:"name"`
	GitHubLogin string `json:"githubLogin"`
	AvatarURL   string `json:"avatarUrl"`
}

func (u update) info() infoBody {
	body := infoBody{
		Kind: u.kind, StartTime: u.started.Unix(), Message: u.message, Environment: orObject(u.environment), Config: orObject(u.config),
		Result: "in-progress", Version: u.version, ResourceChanges: orObject(u.changes), ResourceCount: u.resources,
	}
	if u.preview && u.kind != "preview" {
		body.Kind = "P" + u.kind // the API's words for the dry runs of an update
	}
	switch u.status {
	case notStarted:
		body.Result, body.StartTime = "not-started", u.created.Unix()
	case succeeded:
		body.Result = "succeeded"
	case cancelling, failed, cancelled, timedOut:
		body.Result = "failed"
	}
	if !u.ended.IsZero() {
		body.EndTime = u.ended.Unix()
	}
	switch {
	case u.note != "" && u.message != "":
		body.Message += " (" + u.note + ")"
	case u.note != "":
		body.Message = u.note
	}
	return body
}

func (u update) body(st stack) updateBody {
	return updateBody{
		Info: u.info(), UpdateID: u.id, Version: u.version, LatestVersion: st.version,
		RequestedBy:      personBody{Name: u.author.Name, GitHubLogin: u.author.Login},
		RequestedByToken: u.author.Token,
	}
}

func bodiesOf(updates []update, st stack) []updateBody {
	bodies := make([]updateBody, len(updates))
	for i, u := range updates {
		bodies[i] = u.body(st)
	}
	return bodies
}

// paging is a numbered page: page 0 is everything.
type paging struct{ page, size int64 }

// maxPaged bounds page × size, so that neither overflows what it is added to.
const maxPaged = 1 << 31

func pagingOf(query url.Values) (paging, error) {
	p := paging{size: 10}
	for name, value := range map[string]*int64{"page": &p.page, "pageSize": &p.size} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return paging{}, errs.Errorf(errs.Invalid, "%s is a whole number from 0", name)
		}
		*value = n
	}
	switch {
	case p.page > 0 && p.size == 0:
		return paging{}, errs.Errorf(errs.Invalid, "pageSize is a whole number from 1 where page is given")
	case p.page*p.size > maxPaged:
		return paging{}, errs.Errorf(errs.Invalid, "there is no such page")
	}
	return p, nil
}

// page returns a page of the versions of a stack, newest first. Versions have no
// gaps, so a page is a range of numbers.
func (s *Server) page(ctx context.Context, st stack, p paging) ([]update, error) {
	if p.page == 0 {
		return s.store.versions(ctx, st.id, 1, st.version)
	}
	last := st.version - (p.page-1)*p.size
	return s.store.versions(ctx, st.id, last-p.size+1, last)
}

// historyOf returns the stack of r with an overdue update ended, so that the history
// tells the truth.
func (s *Server) historyOf(r *http.Request) (stack, error) {
	st, err := s.stackOf(r)
	if err != nil {
		return stack{}, err
	}
	return s.settled(r.Context(), st, false)
}

func (s *Server) listUpdates(w http.ResponseWriter, r *http.Request) error {
	st, err := s.historyOf(r)
	if err != nil {
		return err
	}
	p, err := pagingOf(r.URL.Query())
	if err != nil {
		return err
	}
	updates, err := s.page(r.Context(), st, p)
	if err != nil {
		return err
	}
	if r.URL.Query().Get("output-type") != "" {
		httpapi.WriteJSON(w, http.StatusOK, pageBody[updateBody]{bodiesOf(updates, st), p.size, st.version})
		return nil
	}
	infos := make([]infoBody, len(updates))
	for i, u := range updates {
		infos[i] = u.info()
	}
	httpapi.WriteJSON(w, http.StatusOK, pageBody[infoBody]{infos, p.size, st.version})
	return nil
}

type pageBody[T any] struct {
	Updates      []T   `json:"updates"`
	ItemsPerPage int64 `json:"itemsPerPage"`
	Total        int64 `json:"total"`
}

func (s *Server) latestUpdate(w http.ResponseWriter, r *http.Request) error {
	st, err := s.historyOf(r)
	if err != nil {
		return err
	}
	if st.version == 0 {
		return errs.Errorf(errs.NotFound, "stack %s has never been updated", st.ref)
	}
	u, err := s.version(r.Context(), st, st.version)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, u.body(st))
	return nil
}

func (s *Server) readVersion(w http.ResponseWriter, r *http.Request) error {
	st, err := s.historyOf(r)
	if err != nil {
		return err
	}
	version, err := versionOf(r)
	if err != nil {
		return err
	}
	u, err := s.version(r.Context(), st, version)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, u.body(st))
	return nil
}

// versionOf returns the version that the path of r names.
func versionOf(r *http.Request) (int64, error) {
	version, err := strconv.ParseInt(r.PathValue("version"), 10, 64)
	if err != nil || version < 1 {
		return 0, errs.Errorf(errs.Invalid, "a version is a whole number from 1")
	}
	return version, nil
}

// version returns the update that made, or is making, a version of a stack.
func (s *Server) version(ctx context.Context, st stack, version int64) (update, error) {
	updates, err := s.store.versions(ctx, st.id, version, version)
	if err != nil {
		return update{}, err
	}
	if len(updates) == 0 {
		return update{}, errs.Errorf(errs.NotFound, "stack %s has no version %d", st.ref, version)
	}
	return updates[0], nil
}

// listPreviews answers with the previews of a stack, which have no place in its
// history. Oldest first, unless asc=false.
func (s *Server) listPreviews(w http.ResponseWriter, r *http.Request) error {
	st, err := s.historyOf(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	p, err := pagingOf(query)
	if err != nil {
		return err
	}
	skip, limit := int64(0), int64(maxPaged)
	if p.page > 0 {
		skip, limit = (p.page-1)*p.size, p.size
	}
	updates, total, err := s.store.previews(r.Context(), st.id, query.Get("asc") != "false", int(skip), int(limit))
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, pageBody[updateBody]{bodiesOf(updates, st), p.size, total})
	return nil
}

func (s *Server) readPreview(w http.ResponseWriter, r *http.Request) error {
	st, u, err := s.updateOf(r)
	if err != nil {
		return err
	}
	if !u.preview {
		return errs.Errorf(errs.NotFound, "stack %s has no preview %s", st.ref, u.id)
	}
	httpapi.WriteJSON(w, http.StatusOK, u.body(st))
	return nil
}
