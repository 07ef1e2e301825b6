"""Settings of nbgrader for a course; `python -m dytemp assignments` copies them into it."""

from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme, GetGrades

c = get_config()  # noqa: F821  (nbgrader defines it)

c.CourseDirectory.course_id = "dytemp"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
c.Execute.timeout = 120  # seconds for a cell; ExecutePreprocessor.timeout would be ignored
c.Execute.extra_arguments = ["--log-level=ERROR"]  # of the kernel: no advice on encryption
c.OverwriteCells.add_missing_cells = True  # a test cell that a student deleted comes back
# Any text on stderr costs all points of a test cell: a warning of a library must not.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = "[Ww]arning"
# The pages that students get back show neither hidden tests nor mark schemes.
c.GenerateFeedback.preprocessors = [
    GetGrades,
    ClearHiddenTests,
    ClearMarkScheme,
    CSSHTMLHeaderPreprocessor,
]
