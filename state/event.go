package state

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// Types of engine event that are looked for. An event is an object with a member that
// is named after its type.
const (
	summaryEvent    = "summaryEvent"
	diagnosticEvent = "diagnosticEvent"
)

// eventPage is how many events one answer has at most.
const eventPage = 1000

// parseEvent takes from an event what it is found by. The event itself is kept as it
// came, with members that only newer clients know.
func parseEvent(raw jsontext.Value) (eventRow, error) {
	var members map[string]jsontext.Value
	if err := json.Unmarshal(raw, &members); err != nil {
		return eventRow{}, errs.Wrap(errs.Invalid, err, "an event is not a JSON object")
	}
	sequence, err := strconv.ParseInt(string(members["sequence"]), 10, 64)
	if err != nil || sequence < 0 {
		return eventRow{}, errs.Errorf(errs.Invalid, "an event has no sequence number from 0")
	}
	row := eventRow{Sequence: sequence, Content: raw}
	for name, value := range members {
		if !strings.HasSuffix(name, "Event") {
			continue
		}
		var body struct {
			URN      string `json:"urn"`
			Resource string `json:"resourceUrn"`
			Metadata struct {
				URN string `json:"urn"`
			} `json:"metadata"`
		}
		_ = json.Unmarshal(value, &body) // an event without a URN concerns no resource
		row.Type = name
		for _, urn := range []string{body.Metadata.URN, body.URN, body.Resource} {
			if row.URN == "" {
				row.URN = urn
			}
		}
	}
	return row, nil
}

func (s *Server) addEvents(w http.ResponseWriter, r *http.Request) error {
	u, now, err := s.leased(r)
	if err != nil {
		return err
	}
	if err := u.writable(now); err != nil {
		return err
	}
	var body struct {
		Events []jsontext.Value `json:"events"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Medium, &body); err != nil {
		return err
	}
	if len(body.Events) == 0 {
		return errs.Errorf(errs.Invalid, "the batch has no events")
	}
	return s.storeEvents(w, r, u, body.Events)
}

func (s *Server) addEvent(w http.ResponseWriter, r *http.Request) error {
	u, now, err := s.leased(r)
	if err != nil {
		return err
	}
	if err := u.writable(now); err != nil {
		return err
	}
	var body jsontext.Value
	raw, err := httpapi.ReadBody(r, httpapi.Medium)
	if err != nil {
		return err
	}
	if err := httpapi.Decode(raw, &body); err != nil {
		return err
	}
	return s.storeEvents(w, r, u, []jsontext.Value{body})
}

// storeEvents stores events. They come out of order and more than once. No lock is
// taken: an event that slips in while the update is being closed does no harm.
func (s *Server) storeEvents(w http.ResponseWriter, r *http.Request, u update, events []jsontext.Value) error {
	rows := make([]eventRow, len(events))
	for i, raw := range events {
		var err error
		if rows[i], err = parseEvent(raw); err != nil {
			return err
		}
	}
	if err := s.store.addEvents(r.Context(), u.id, rows); err != nil {
		return err
	}
	return noContent(w)
}

// listEvents answers with a page of events in their order. There is a continuation
// token until the update has ended and everything has been delivered. While it runs,
// delivery stops before a number that has not arrived yet, since batches overtake each
// other and a reader does not go back.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) error {
	_, u, err := s.updateOf(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	after := int64(-1)
	if token := query.Get("continuationToken"); token != "" {
		if after, err = strconv.ParseInt(token, 10, 64); err != nil || after < -1 {
			return errs.Errorf(errs.Invalid, "the continuation token is not one that this service gave out")
		}
	}
	types, urn := query["type"], query.Get("urn")
	rows, err := s.store.events(r.Context(), u.id, after, types, urn, eventPage)
	if err != nil {
		return err
	}
	if !u.status.ended() && len(types) == 0 && urn == "" {
		rows = contiguous(rows, after)
	}
	var body struct {
		Events            []jsontext.Value `json:"events"`
		ContinuationToken *string          `json:"continuationToken"`
	}
	for _, row := range rows {
		body.Events = append(body.Events, row.Content)
		after = row.Sequence
	}
	if !u.status.ended() || len(rows) == eventPage {
		token := strconv.FormatInt(after, 10)
		body.ContinuationToken = &token
	}
	httpapi.WriteJSON(w, http.StatusOK, body)
	return nil
}

// contiguous returns the rows up to the first number that is missing after "after".
func contiguous(rows []eventRow, after int64) []eventRow {
	for i, row := range rows {
		if row.Sequence != after+1+int64(i) {
			return rows[:i]
		}
	}
	return rows
}
