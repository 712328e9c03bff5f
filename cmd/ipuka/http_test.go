package main

import (
	"io"
	"net/http"

	"github.com/rogpeppe/go-internal/testscript"
)

// get reads a path of the API as the first administrator.
func get(ts *testscript.TestScript, path string) []byte {
	request, err := http.NewRequest(http.MethodGet, ts.Getenv("API")+path, nil)
	ts.Check(err)
	request.Header.Set("Authorization", "token "+ts.Getenv("TOKEN"))
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	return body
}
