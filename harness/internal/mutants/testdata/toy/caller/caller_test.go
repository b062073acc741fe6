package caller

import "testing"

func TestAlarm(t *testing.T) {
	if Alarm(2) != "in time" || Alarm(4) != "late" {
		t.Error("wrong")
	}
}
